"""What is configured beside what is in force: each difference and when it takes effect, by `diff`, `check` and `up`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import skops.io
import yaml
from builders import small_experiment

from gauntlet import adapters, control, first_start, in_force, keys, status
from gauntlet.cli import main
from gauntlet.config import Config
from gauntlet.config.takes_effect import TakesEffect, effect_of, flat
from gauntlet.rollout import Command
from gauntlet.types import Rule, Task


def started(folder: Path, **changes: Any) -> Config:
    """An experiment that has started once with these settings."""
    config = small_experiment.load(small_experiment.write(folder, **changes))
    asyncio.run(first_start.ensure(config))
    return config


def changed(folder: Path, **changes: Any) -> Path:
    """The same configuration file with other sections."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
    return path


def shown(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, list[str], str]:
    """Exit code, lines of standard output, and standard error."""
    capsys.readouterr()
    code = main([str(word) for word in argv])
    told = capsys.readouterr()
    return code, told.out.splitlines(), told.err


def lines(capsys: pytest.CaptureFixture[str], path: Path) -> list[str]:
    """The differences that `diff` prints; `check` prints the same."""
    code, found, err = shown(capsys, "diff", path)
    assert (code, err) == (0, "")
    code, checked, err = shown(capsys, "check", path)
    assert (code, err) == (0, "")
    assert [line.removeprefix("differs: ") for line in checked if line.startswith("differs: ")] == found[1:]
    return found[1:]


def test_before_the_first_start_everything_will_be_taken(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = small_experiment.write(tmp_path)
    assert shown(capsys, "diff", path) == (
        0,
        [f"{path}: nothing is in force yet; the first start takes everything"],
        "",
    )
    assert not (tmp_path / "gauntlet-data").exists()


def test_without_a_change_nothing_differs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    started(tmp_path)
    path = tmp_path / "config.yaml"
    assert shown(capsys, "diff", path)[1] == [f"{path}: test is in force with champion v0001, as configured"]
    assert "test is in force with champion v0001" in shown(capsys, "check", path)[1]


def test_the_folder_may_move(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    started(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert lines(capsys, tmp_path / "there" / "config.yaml") == []


ANEW = "give it an `experiment` and a `data` folder of its own"
CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a duration": (
        {"router": {"port": 0, "deadline": "30s", "challenger_timeout": "5s"}},
        ["router.deadline: in force 20s, configured 30s; takes effect at the next start"],
    ),
    "a default that is left": (
        {"bake": {"min_outcomes": 900}},
        ["bake.min_outcomes: in force 500, configured 900; takes effect at the next start"],
    ),
    "a ramp": (
        {"ramp": [{"share": 0.02, "min_time": "2d"}, {"share": 0.05, "min_time": "2d"}]},
        [
            "ramp[0].share: in force 0.01, configured 0.02; takes effect with the next rollout",
            *(
                f"ramp[2].{name}: in force {value}, configured none; takes effect with the next rollout"
                for name, value in (("approval", "false"), ("min_outcomes", "1"), ("min_time", "3d"), ("share", "0.1"))
            ),
        ],
    ),
    "a guardrail": (
        {"guardrails": [{"metric": "recall", "label": 1, "margin": 0.02}]},
        [
            "guardrails.recall of 1.alpha: in force none, configured 0.05; takes effect with the next rollout",
            "guardrails.recall of 1.margin: in force none, configured 0.02; takes effect with the next rollout",
        ],
    ),
    "evidence": (
        {"evidence": {"alpha": 0.01, "inconclusive": "extend"}},
        [
            "evidence.alpha: in force 0.05, configured 0.01; takes effect with the next rollout",
            "evidence.inconclusive: in force archive, configured extend; takes effect at the next start",
        ],
    ),
    "a schedule and a recipe": (
        {"retrain": {"schedule": {"every": "7d"}, "recipes": [{"name": "short", "window": "30d"}]}},
        [
            "retrain.recipes[0].name: in force none, configured short; takes effect at the next start",
            "retrain.recipes[0].parameters: in force none, configured {}; takes effect at the next start",
            "retrain.recipes[0].search: in force none, configured {}; takes effect at the next start",
            "retrain.recipes[0].trainer: in force none, configured null; takes effect at the next start",
            "retrain.recipes[0].window: in force none, configured 30d; takes effect at the next start",
            "retrain.schedule: in force null, configured every 7d; takes effect at the next start",
        ],
    ),
    "another pane": (
        {"drift": {"pane": 512}},
        [
            "drift.pane: in force 256, configured 512; takes effect at the next start: "
            "the champion is then watched from scratch"
        ],
    ),
    "other features": (
        {"features": ["x1", "x2", "x4"]},
        [
            "features: in force [x1, x2, x3], configured [x1, x2, x4]; never takes effect by itself: versions share "
            f"the features of the first; for others, {ANEW}"
        ],
    ),
    "a feature that may be missing": (
        {"features": ["x1", "x2", {"name": "x3", "required": False}]},
        [
            "features: in force [x1, x2, x3], configured [x1, x2, x3 (optional)]; never takes effect by itself: "
            f"versions share the features of the first; for others, {ANEW}"
        ],
    ),
    "the same features in another form": ({"features": ["x3", "x1", {"name": "x2", "kind": "number"}]}, []),
    "other classes": (
        {"classes": ["no", "yes"]},
        [
            "classes: in force [0, 1], configured ['no', 'yes']; never takes effect by itself: versions share the "
            f"classes of the first; for others, {ANEW}"
        ],
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_difference_says_when_it_counts(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    changes, expected = CHANGES[name]
    started(tmp_path)
    assert lines(capsys, changed(tmp_path, **changes)) == expected


def test_an_overwritten_model_is_told_with_the_commands_that_bring_it_in(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    started(tmp_path)
    path = tmp_path / "config.yaml"
    skops.io.dump(small_experiment.classifier(2), tmp_path / "model.skops")
    assert lines(capsys, path) == [
        "champion.model: in force v0001, configured model.skops, which is not a version; never takes effect by itself: "
        f"make it a version with  gauntlet register CONFIG {tmp_path / 'model.skops'}  and challenge with it"
    ]
    assert shown(capsys, "register", path, tmp_path / "model.skops")[1] == ["v0002"]
    assert lines(capsys, path) == [
        "champion.model: in force v0001, configured model.skops, which is v0002; never takes effect by itself: "
        "challenge with v0002"
    ]
    ordered(small_experiment.load(path), "challenge", version="v0002")
    ordered(small_experiment.load(path), "promote")
    assert lines(capsys, path) == []


def ordered(config: Config, name: str, **order: Any) -> None:
    """A command as an operator gives it."""

    async def change() -> None:
        store = adapters.state(config)
        shadow, stages = config.ladder(Rule.PROVE)
        ladder = {"shadow": shadow, "stages": stages} if name == "challenge" else {}
        command = Command(name=name, actor="test", reason="test", **ladder, **order)
        await control.change(store, config.experiment, command, 1.0)
        await store.close()

    asyncio.run(change())


def test_a_model_that_is_gone_or_was_the_first_differs_in_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = started(tmp_path)
    skops.io.dump(small_experiment.classifier(2), tmp_path / "other.skops")
    assert shown(capsys, "register", tmp_path / "config.yaml", tmp_path / "other.skops")[0] == 0
    ordered(config, "challenge", version="v0002")
    ordered(config, "promote")
    assert lines(capsys, tmp_path / "config.yaml") == []
    (tmp_path / "model.skops").unlink()
    assert lines(capsys, tmp_path / "config.yaml") == []


def test_another_function_is_another_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = {"model": "builders.small_experiment:classifier"}
    started(tmp_path, champion=model)
    assert lines(capsys, tmp_path / "config.yaml") == []
    path = changed(tmp_path, champion={"model": "builders.small_experiment:regressor"})
    (line,) = lines(capsys, path)
    assert line.startswith(
        "champion.model: in force v0001, configured builders.small_experiment:regressor, which is not a version"
    )


def test_a_changed_reference_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = "x1,x2,x3,y\n" + "".join(f"{i % 7},{i % 5},{i % 3},{i % 2}\n" for i in range(200))
    small_experiment.write(tmp_path)
    (tmp_path / "rows.csv").write_text(rows)
    champion = {"model": "model.skops", "reference": "rows.csv", "target": "y"}
    started(tmp_path, champion=champion)
    path = tmp_path / "config.yaml"
    assert lines(capsys, path) == []
    (tmp_path / "rows.csv").write_text(rows + "1,2,3,1\n")
    (line,) = lines(capsys, path)
    assert line.startswith(
        "champion.reference: in force another content, configured rows.csv; never takes effect by itself"
    )
    assert line.endswith("give it with  gauntlet register --reference CONFIG MODEL")
    assert shown(capsys, "register", "--reference", path, tmp_path / "model.skops")[1] == ["v0002"]
    kept = adapters.registry(small_experiment.load(path)).reference("v0002")
    assert kept is not None
    assert (kept.rows, kept.columns["x1"][-1], kept.truths[-1]) == (201, 1.0, 1.0)
    path = changed(tmp_path, champion={**champion, "target": None})
    assert any(line.startswith("champion.target: in force y, configured null; never") for line in lines(capsys, path))
    (tmp_path / "rows.csv").unlink()
    path = changed(tmp_path, champion={"model": "model.skops"})
    assert [line.partition(":")[0] for line in lines(capsys, path)] == ["champion.reference", "champion.target"]


def test_a_running_rollout_keeps_its_own_settings_whatever_was_started_since(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = started(tmp_path, guardrails=[{"metric": "fallback_rate", "margin": 0.02}])
    skops.io.dump(small_experiment.classifier(2), tmp_path / "b.skops")
    assert shown(capsys, "register", tmp_path / "config.yaml", tmp_path / "b.skops")[0] == 0
    ordered(config, "challenge", version="v0002")
    planned(config, alpha=0.05, min_samples=10_000, duration=21 * 86_400.0, guards=[guard(0.02)])
    path = changed(
        tmp_path,
        guardrails=[{"metric": "fallback_rate", "margin": 0.01}],
        evidence={"alpha": 0.01, "duration": "10d"},
        shadow={"min_time": "1d"},
    )
    expected = [
        "evidence.alpha: in force 0.05, configured 0.01; takes effect with the next rollout",
        "evidence.duration: in force 21d, configured 10d; takes effect with the next rollout",
        "guardrails.fallback_rate.margin: in force 0.02, configured 0.01; takes effect with the next rollout",
        "shadow.min_time: in force 2d, configured 1d; takes effect with the next rollout",
    ]
    assert lines(capsys, path) == expected
    in_force.keep(small_experiment.load(path))  # the services have started with it
    assert lines(capsys, path) == expected
    ordered(config, "abort")
    assert lines(capsys, path) == []


def guard(margin: float) -> dict[str, Any]:
    return {"name": "fallback_rate", "metric": "fallback_rate", "margin": margin, "alpha": 0.05, "quantile": 0.99}


def planned(config: Config, **plan: Any) -> None:
    """The evaluator's report while the first rollout runs."""
    report(config, plans={"test-r0001": plan})


def report(config: Config, **facts: Any) -> None:
    async def publish() -> None:
        store = adapters.state(config)
        progress = status.EvaluatorProgress(at=1.0, **facts)
        await status.publish(store, keys.evaluator_progress(config.experiment), progress)
        await store.close()

    asyncio.run(publish())


def refused(capsys: pytest.CaptureFixture[str], path: Path) -> str:
    """Why `diff`, `check`, `register` and a router's start refuse; each says the same."""
    told = set()
    for command in (["diff"], ["check"], ["router"], ["register"]):
        words = [*command, path] + ([path.parent / "model.skops"] if command == ["register"] else [])
        code, _, err = shown(capsys, *words)
        assert code == 2
        told.add(err)
    (message,) = told
    assert message.count("\n") == 1
    return message


def test_another_experiment_in_the_data_folder_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = started(tmp_path)
    message = refused(capsys, changed(tmp_path, experiment="other"))
    assert message == (
        f"gauntlet: {config.data}: experiment: in force test, configured other; is refused at start: set the name "
        "back, or give the new experiment a `data` folder of its own\n"
    )
    assert [v.version for v in adapters.registry(config).versions()] == ["v0001"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clock": "events"}, "clock: in force wall, configured events; is refused at start: set it back"),
        (
            {"profile": "rehearsal"},
            "profile: in force production, configured rehearsal; is refused at start: set it back",
        ),
        ({"task": "regression"}, "task: in force classification, configured regression; is refused at start"),
        ({"log": "kafka://somewhere:9092"}, "log: in force local, configured kafka://somewhere:9092; is refused"),
    ],
)
def test_what_would_corrupt_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    started(tmp_path)
    assert words in refused(capsys, changed(tmp_path, **changes))


def test_what_the_evaluator_has_counted_is_refused_and_else_taken(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = started(tmp_path)
    path = changed(tmp_path, evidence={"outcome_horizon": "2d", "metric": "brier"})
    assert lines(capsys, path) == [
        "evidence.metric: in force null, configured brier; takes effect at the next start",
        "evidence.outcome_horizon: in force 1d, configured 2d; takes effect at the next start",
    ]
    counted = {
        "task": "classification",
        "evidence.metric": "log_loss",
        "evidence.block": 86_400.0,
        "evidence.harm_block": 3600.0,
        "evidence.block_offset": 0.0,
        "evidence.outcome_horizon": 86_400.0,
    }
    report(config, settings=counted)
    message = refused(capsys, path)
    assert "evidence.metric: in force log_loss, configured brier; is refused at start: set it back" in message
    assert "evidence.outcome_horizon: in force 1d, configured 2d; is refused at start: set it back" in message
    assert lines(capsys, changed(tmp_path, evidence={"metric": "log_loss"})) == []


def test_a_folder_whose_state_is_gone_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = started(tmp_path)
    for file in Path(config.data).glob("state.db*"):
        file.unlink()
    message = refused(capsys, tmp_path / "config.yaml")
    assert f"{config.data}: test has run here ({config.data}/settings.json is there)" in message
    assert f"({config.data}/state.db) nor in the router's copy ({config.data}/control.json): restore one" in message
    assert [v.version for v in adapters.registry(config).versions()] == ["v0001"]


def test_settings_that_cannot_be_read_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = started(tmp_path)
    file = Path(config.data) / "settings.json"
    file.write_text("{")
    assert f"{file} can't be read" in refused(capsys, tmp_path / "config.yaml")
    file.unlink()
    assert lines(capsys, tmp_path / "config.yaml") == []


def test_a_start_keeps_what_it_cannot_change(tmp_path: Path) -> None:
    started(tmp_path)
    path = changed(tmp_path, features=["x1", "x2"], bake={"min_outcomes": 900})
    config = small_experiment.load(path)
    in_force.keep(config)
    kept = json.loads((Path(config.data) / "settings.json").read_text())["settings"]
    assert kept["bake.min_outcomes"] == "900"
    found = asyncio.run(in_force.read(config))
    assert found is not None
    assert [(one.setting, one.effect) for one in in_force.differences(config, found)] == [
        ("features", TakesEffect.NEVER)
    ]


def test_every_setting_has_an_effect() -> None:
    config = small_experiment.configs.parse("experiment: e\ntask: classification\nchampion: {model: m.skops}\n")
    effects = {name: effect_of(name)[0] for name in flat(config)}
    assert effects["ramp[0].share"] is TakesEffect.ROLLOUT
    assert effects["router.breaker.window"] is TakesEffect.START
    refused = {name for name, effect in effects.items() if effect is TakesEffect.REFUSED}
    assert refused == {"experiment", "profile", "task", "clock", "log", "registry"}
    assert len(effects) > 90
    assert config.task is Task.CLASSIFICATION
    assert msgspec.structs.fields(in_force.Difference)
