"""The configuration: defaults, durations, and each refusal with its file, its line, its key and its reason."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
import yaml

from evaluator.stats import Plan, Side
from gauntlet.cli.command import EXAMPLE
from gauntlet.config import Config
from gauntlet.config import load as config
from gauntlet.config.section import Seconds
from gauntlet.errors import ConfigError
from gauntlet.types import Task

BASE = "experiment: e\ntask: classification\nchampion:\n  model: m.skops\n"
NEXT = BASE.count("\n") + 1
"""The line on which a test's own text begins."""


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "c.yaml")
    assert caught.value.code == "bad_config"
    return str(caught.value)


def test_three_keys_are_enough_and_the_example_shows_every_default() -> None:
    bare = config.parse(BASE)
    assert (bare.metric, bare.router.port, bare.router.deadline) == ("log_loss", 8420, 2.0)
    assert [stage.share for stage in bare.ramp] == [0.01, 0.05, 0.1]
    shown = config.load(EXAMPLE)
    assert msgspec.structs.replace(bare, experiment=shown.experiment, champion=shown.champion, data=shown.data) == shown
    assert msgspec.to_builtins(shown.champion) == {
        **msgspec.to_builtins(bare.champion),
        "model": str(EXAMPLE.parent / "model.skops"),
    }


def test_the_example_names_every_key() -> None:
    def keys(value: object) -> object:
        if isinstance(value, msgspec.Struct):
            value = msgspec.structs.asdict(value)
        return {k: keys(v) for k, v in value.items()} if isinstance(value, dict) else None

    assert keys(yaml.safe_load(EXAMPLE.read_text())) == keys(config.load(EXAMPLE))


def test_a_regression_has_its_own_metric() -> None:
    regression = BASE.replace("classification", "regression")
    assert config.parse(regression).metric == "mse"
    assert config.parse(regression).task is Task.REGRESSION
    assert config.parse(f"{regression}evidence: {{metric: mae}}").metric == "mae"
    message = refusal(f"{regression}evidence: {{metric: log_loss}}")
    assert "must be one of mse, mae with `task: regression`, not 'log_loss'" in message


def test_the_highest_levels_that_are_accepted_make_a_plan() -> None:
    levels = f"evidence: {{alpha: {math.nextafter(0.98, 0)!r}, harm_alpha: {math.nextafter(0.49, 0)!r}}}"
    evidence = config.parse(BASE + levels).evidence
    Plan(horizon=1.0, win=Side(evidence.alpha / 2), harm=Side(evidence.harm_alpha))


def test_features_are_names_or_more() -> None:
    specs = config.parse(BASE + "features: [a, {name: b, kind: text, required: false}]").feature_specs()
    assert [(f.name, f.kind, f.required) for f in specs] == [("a", "auto", True), ("b", "text", False)]


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(BASE + "  reference: r.csv\ndata: here\n")
    found = config.load(path)
    assert (found.champion.model, found.champion.reference) == (str(tmp_path / "m.skops"), str(tmp_path / "r.csv"))
    assert found.data == str(tmp_path / "here")
    path.write_text(BASE.replace("m.skops", "mine:model") + f"data: {tmp_path / 'there'}\n")
    assert (config.load(path).champion.model, config.load(path).data) == ("mine:model", str(tmp_path / "there"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("90s", 90),
        ("15m", 900),
        ("12h", 43_200),
        ("7d", 604_800),
        ("1.5h", 5400),
        (" 2 m ", 120),
        (3, 3),
        (0.5, 0.5),
        (0, 0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert Seconds.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "5", "5 parsecs", "-1s", "1h30m", "1e3s", True, None, -1, float("inf"), float("nan"), [], "9" * 400 + "d"],
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="a duration"):
        Seconds.parse(text)


# Section, what stands in it, and what the refusal says. Each is refused with the line of its own key.
IMPOSSIBLE = [
    ("router", "port: 70000", "router.port: must be a whole number <= 65535"),
    ("router", "port: -1", "router.port: must be a whole number >= 0"),
    ("router", "port: true", "must be a whole number, not true or false"),
    ("router", "port: '80'", "must be a whole number, not a text"),
    ("router", "deadline: 0", "`deadline` must be greater than 0"),
    ("router", "deadline: 5 parsecs", "a duration must look like"),
    ("router", "deadline: -3", "a duration must be finite and not negative"),
    ("router", "challenger_timeout: 3s", "`challenger_timeout` must be greater than 0 and less than `deadline`"),
    ("router", "max_body_bytes: 10", "max_body_bytes: must be a whole number >= 1024"),
    ("router", "max_instances: 0", "max_instances: must be a whole number >= 1"),
    ("router", "shadow_queue: -1", "shadow_queue: must be a whole number >= 0"),
    ("router", "delivery: maybe", "must be durable or fast, not 'maybe'"),
    ("router", "prot: 1", "there is no key `prot`; did you mean 'port'?"),
    ("router", "host: 0.0.0.0", "give `keys`, or stay on 127.0.0.1"),
    (
        "retrain",
        "triggers: {performance: {floors: {accurracy: 0.5}}}",
        "retrain.triggers.performance.floors: has no key 'accurracy'; there are accuracy",
    ),
    (
        "retrain",
        "triggers: {performance: {ceilings: {r2: 0.5}}}",
        "ceilings: has no key 'r2'; there are log_loss, brier, rmse, mae",
    ),
    ("evidence", "alpha: 0", "evidence.alpha: must be a number > 0.0"),
    ("evidence", "alpha: 0.98", "evidence.alpha: must be a number < 0.98"),
    ("evidence", "alpha: .nan", "evidence.alpha: must be a number"),
    ("evidence", "harm_alpha: 0.49", "harm_alpha: must be a number < 0.49"),
    ("evidence", "min_samples: 0", "min_samples: must be a whole number >= 1"),
    ("evidence", "block: 0", "a block must be `auto` or longer than 0"),
    ("evidence", "{block: 1d, harm_block: 0}", "`harm_block` must be greater than 0"),
    ("evidence", "{block: 1d, harm_block: 7h}", "`block` must be a whole multiple of `harm_block`"),
    ("evidence", "{block: 1d, harm_block: 30000d}", "`block` must be a whole multiple of `harm_block`"),
    ("evidence", "min_blocks: 2", "min_blocks: must be a whole number >= 3"),
    ("evidence", "min_harm_blocks: 2", "min_harm_blocks: must be a whole number >= 3"),
    ("evidence", "margin: -0.1", "margin: must be a number >= 0.0"),
    ("evidence", "metric: f1", "must be one of log_loss, brier, accuracy with `task: classification`, not 'f1'"),
    ("evidence", "form: triple", "must be paired or split, not 'triple'"),
    ("evidence", "label_arrival_margin: 0", "must be a number > 0.0"),
    ("evidence", "label_arrival_margin: 1.1", "must be a number <= 1.0"),
    ("guardrails", "- {metric: brier}", "`margin` is missing"),
    ("guardrails", "- {metric: brier, margin: -0.1}", "guardrails.0.margin: must be a number >= 0.0"),
    ("guardrails", "- {metric: brier, margin: .nan}", "guardrails.0.margin: must be a number"),
    ("guardrails", "- {metric: brier, margin: 0.1, alpha: 0.5}", "guardrails.0.alpha: must be a number < 0.49"),
    ("guardrails", "- {metric: recall, margin: 0.1}", "`metric: recall` needs a `label`"),
    ("guardrails", "- {metric: brier, margin: 0.1, label: 1}", "`label` is only valid with `metric: recall`"),
    ("guardrails", "- {metric: brier, margin: 0.1, quantile: 0.9}", "`quantile` is only valid with `metric: latency`"),
    ("guardrails", "- {metric: latency, margin: 0.1, quantile: 0.4}", "quantile: must be a number >= 0.5"),
    ("guardrails", "- {metric: log_loss, margin: 0.1}", "`guardrails` must be on brier, accuracy, recall, "),
    ("guardrails", "- {metric: mse, margin: 0.1}", "and the primary metric log_loss, not on 'mse'"),
    (
        "guardrails",
        "- {metric: brier, margin: 0}\n  - {metric: brier, margin: 1}",
        "`guardrails` must have names, each once",
    ),
    ("segments", "- a\n  - a", "`segments` must have names, each once, not ['a', 'a']"),
    ("segments", "- ''", "`segments` must have names"),
    ("shadow", "fraction: 1.1", "fraction: must be a number <= 1.0"),
    ("shadow", "fraction: 0", "`shadow.fraction` must be greater than 0"),
    ("shadow", "min_outcomes: -1", "min_outcomes: must be a whole number >= 0"),
    ("ramp", "- share: 0", "ramp.0.share: must be a number > 0.0"),
    ("ramp", "- share: 1", "ramp.0.share: must be a number < 1.0"),
    ("ramp", "- share: 0.12345678", "`share` must have at most six decimals"),
    ("ramp", "- {share: 0.1, min_outcomes: -1}", "ramp.0.min_outcomes: must be a whole number >= 0"),
    ("ramp", "- share: 0.2\n  - share: 0.1", "must have shares that rise from stage to stage, not [0.2, 0.1]"),
    ("ramp", "- share: 0.1\n  - share: 0.1", "must have shares that rise from stage to stage"),
    ("bake", "window: 0", "`window` must be greater than 0"),
    ("bake", "max_drop: 0", "max_drop: must be a number > 0.0"),
    ("bake", "max_drop: .nan", "max_drop: must be a number"),
    ("bake", "min_outcomes: 0", "min_outcomes: must be a whole number >= 1"),
    ("drift", "ks: 1", "ks: must be a number < 1.0"),
    ("drift", "concept_rise: 0", "concept_rise: must be a number > 0.0"),
    ("drift", "pane: 8", "pane: must be a whole number >= 16"),
    ("drift", "reference_rows: 10", "reference_rows: must be a whole number >= 100"),
    ("retrain", "confidence: 1", "confidence: must be a number < 1.0"),
    ("retrain", "min_data_points: 5", "min_data_points: must be a whole number >= 20"),
    ("retrain", "window: 1d", "`window` must be longer than `validation` and `test` together"),
    ("retrain", "bootstrap: 10", "bootstrap: must be a whole number >= 200"),
    ("retrain", "test: 0", "`test` must be greater than 0"),
    ("retrain", "validation: 0", "`validation` must be greater than 0"),
    ("retrain", "max_attempts: 0", "max_attempts: must be a whole number >= 1"),
    ("retrain", f"max_memory_bytes: {10**30}", "`max_memory_bytes` must be at most 1,125,899,906,842,624"),
    ("retrain", "seed: 4294967296", "`seed` must be at most 4,294,967,295: numpy"),
    ("retrain", "parallel_jobs: 1025", "`parallel_jobs` must be at most 1,024"),
    ("retrain", "cool_down: 1000000000000d", "retrain.cool_down: a duration must be at most 100 years (36525d)"),
    (
        "retrain",
        "triggers: {volume: {samples: 1000000001}}",
        "`samples` must be at most 1,000,000,000: no job can hold",
    ),
    ("retrain", "time_limit: 0", "`time_limit` must be greater than 0"),
    ("retrain", "min_improvement: .nan", "min_improvement: must be a number"),
    ("retrain", "seed: -1", "seed: must be a whole number >= 0"),
    ("retrain", "on_severity: LOW", "must be MEDIUM or HIGH or CRITICAL, not 'LOW'"),
    ("observe", "evaluator_port: 99999", "evaluator_port: must be a whole number <= 65535"),
    ("observe", "retrainer_port: -5", "retrainer_port: must be a whole number >= 0"),
    ("observe", "retrainer_port: 8420", "`observe` must leave each service a port of its own, not [8420, 8421, 8420]"),
    ("observe", "log_level: loud", "must be debug or info or warning or error, not 'loud'"),
    ("notify", "- {name: a}", "'a' must have exactly one of `apprise`, `webhook`, `handler` and"),
    ("notify", "- {name: a, apprise: A, handler: 'm:f'}", "'a' must have exactly one of `apprise`, `webhook`"),
    ("notify", "- {name: a, webhook: 'http://h/'}", "'a': `secret` names the environment variable with the secret"),
    ("notify", "- {name: a, apprise: A, secret: S}", "'a': `secret` names the environment variable with the secret"),
    ("notify", "- {name: a, webhook: 'ftp://h/', secret: S}", "'a': `webhook` must be http://… or https://…"),
    ("notify", "- {name: a, webhook: 'http://u:p@h/', secret: S}", "'a': `webhook` must hold no password"),
    ("notify", "- {name: a, apprise: A, severity: LOUD}", "must be LOW or MEDIUM or HIGH or CRITICAL, not 'LOUD'"),
    ("notify", "- {name: a, apprise: A}\n  - {name: a, apprise: B}", "`notify` must have names, each once"),
    ("keys", "- {name: a, role: boss, env: A}", "not 'boss'"),
    ("keys", "- {name: a, role: admin}", "`env` is missing"),
    (
        "keys",
        "- {name: a, role: admin, env: A}\n  - {name: a, role: viewer, env: B}",
        "`keys` must have names, each once",
    ),
    ("features", "- {name: a, kind: blob}", "must be auto or number or text, not 'blob'"),
    ("features", "- a\n  - a", "`features` must have names, each once"),
    ("features", "- ''", "`features` must have names"),
    ("classes", "- 1", "`classes` must be at least two, each once"),
    ("classes", "- 1\n  - true", "`classes` must be at least two, each once"),
]


@pytest.mark.parametrize(("section", "value", "reason"), IMPOSSIBLE)
def test_what_is_impossible_is_refused_with_its_line(section: str, value: str, reason: str) -> None:
    message = refusal(f"{BASE}\n# a remark\n{section}:\n  {value}\n")
    assert reason in message
    line = int(message.removeprefix("c.yaml:").partition(":")[0])
    of_the_section = reason.split()[0].strip("`") in (section, "block") or value.startswith("-")
    assert line in ((NEXT + 2, NEXT + 3) if of_the_section else (NEXT + 3,))


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("evidense: {}", NEXT, "top level: there is no key `evidense`; did you mean 'evidence'?"),
        ("log: ftp://x", NEXT, "`log` must be local or kafka://"),
        ("state: memcached://x", NEXT, "`state` must be local or redis://"),
        ("records: mysql://u:secret@h/d", NEXT, "`records` must be local or postgresql://…, not 'mysql://u:***@h/d'"),
        ("records: postgresql://u:sec/ret@h:5432/d", NEXT, "`records`: the port must be a number"),
        ("clock: sundial", NEXT, "must be wall or events, not 'sundial'"),
        ("router: []", NEXT, "must be a mapping of keys to values, not a list"),
        ("router:", NEXT, "must be a mapping of keys to values, not nothing"),
        ("ramp: []", NEXT, "ramp: must be a list of length >= 1"),
        ("data: a\ndata: b", NEXT + 1, "data is given twice"),
        ("router: {port: 1}\nevidence:\n  alpha: 0.1\n  alpha: 0.2", NEXT + 3, "alpha is given twice"),
        ("ramp:\n- share: 0.1\n  share: 0.2", NEXT + 2, "share is given twice"),
        ("data: [", NEXT, "this is not YAML"),
        ("\tdata: x", NEXT, "this is not YAML"),
        ("data: x\n\nb: \x07", NEXT + 2, "this is not YAML: special characters are not allowed"),
        ("data: !!python/object/apply:os.system [ls]", NEXT, "could not determine a constructor"),
        ("data: !mine x", NEXT, "could not determine a constructor"),
        ("? [a, b]\n: 1", NEXT, "unhashable key"),
        ("---\nb: 1", NEXT, "another document"),
        ("shadow:\n  min_time: 12:30", NEXT + 1, "shadow.min_time: YAML reads 12:30 as a number to the base 60"),
        ("evidence: {min_samples: 010000}", NEXT, "evidence.min_samples: YAML reads 010000 as an octal number"),
        ("classes: [no, yes]", NEXT, "classes.0: YAML reads no as false: write the label in quotes"),
        ("guardrails: [{metric: recall, label: On, margin: 0.1}]", NEXT, "guardrails.0.label: YAML reads On as true"),
        ("guardrails: [{metric: recall}]", NEXT, "guardrails.0: `margin` is missing"),
        ("data: $HOME/runs", NEXT, "data: $HOME in '$HOME/runs' is not expanded here: write the path itself"),
        ("data: /srv/${USER}/runs", NEXT, "data: ${USER} in '/srv/${USER}/runs' is not expanded here"),
        ("data: ~/runs", NEXT, "data: ~ in '~/runs' is not expanded here"),
        ("data: ''", NEXT, "data: must be a path, not ''"),
        ('data: "a\\0b"', NEXT, "data: must be a path, not 'a\\x00b'"),
        ("bake: {time: 36526d}", NEXT, "bake.time: a duration must be at most 100 years (36525d), not '36526d'"),
    ],
)
def test_the_line_of_a_mistake(text: str, line: int, reason: str) -> None:
    message = refusal(BASE + text)
    assert message.startswith(f"c.yaml:{line}: ")
    assert reason in message


@pytest.mark.parametrize("text", ["", "- a", "words", "7", "~"])
def test_what_is_no_mapping(text: str) -> None:
    assert refusal(text) == "c.yaml:1: a configuration is a mapping of keys to values"


@pytest.mark.parametrize(
    "text", ["data: 2013-99-99", "data: " + "9" * 5000, "data: &a [*a]", "data: " + "[" * 3000, "1: x", "~: x"]
)
def test_odd_yaml_is_refused_like_any_other(text: str) -> None:
    assert refusal(BASE + text).startswith("c.yaml:")


def test_a_name_for_the_experiment() -> None:
    for name in ("Big", "-x", "a b", "a/b", "x" * 64, "../x", ""):
        assert "`experiment` must be a name" in refusal(BASE.replace("experiment: e", f"experiment: '{name}'"))
    assert refusal("task: regression\nchampion: {model: m}").endswith("`experiment` is missing")
    assert "`classes` is only valid with `task: classification`" in refusal(
        BASE.replace("classification", "regression") + "classes: [a, b]"
    )


def test_guardrails_have_names_of_their_own() -> None:
    made = config.parse(
        BASE + "guardrails:\n"
        "- {metric: latency, margin: 0.01}\n- {metric: latency, margin: 0.01, quantile: 0.95}\n"
        "- {metric: recall, label: true, margin: 0.1}\n- {metric: recall, label: 2, margin: 0.1}\n"
        "- {metric: fallback_rate, margin: 0.001}\nsegments: [country]"
    )
    names = ["latency p99", "latency p95", "recall of True", "recall of 2", "fallback_rate"]
    assert [guard.name for guard in made.guardrails] == names
    assert made.segments == ["country"]
    with_classes = BASE + "classes: [a, b]\nguardrails: [{metric: recall, label: %s, margin: 0.1}]"
    assert config.parse(with_classes % "a").guardrails[0].label == "a"
    assert "must have a `label` that is one of `classes`, not 'c'" in refusal(with_classes % "c")
    regression = BASE.replace("classification", "regression")
    assert "`guardrails` must be on mae, fallback_rate" in refusal(
        regression + "guardrails: [{metric: recall, label: 1, margin: 0.1}]"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert config.parse(f"{BASE}router: {{host: '{host}'}}").router.host == host


def test_an_open_address_needs_keys() -> None:
    keys = "keys: [{name: a, role: admin, env: A}]\n"
    assert config.parse(f"{BASE}router: {{host: 0.0.0.0}}\n{keys}").keys[0].role == "admin"
    for host in ("0.0.0.0", "::", "example.org", ""):
        assert "give `keys`" in refusal(f"{BASE}router: {{host: '{host}'}}")


@pytest.mark.parametrize("text", ["data: a~/b", "data: cost$", "classes: ['no', 'yes']", "classes: [false, true]"])
def test_what_only_resembles_a_misreading_is_taken(text: str) -> None:
    assert config.parse(BASE + text).experiment


def test_keys_that_are_no_texts_are_told_in_words() -> None:
    assert refusal(f"{BASE}1: x") == "c.yaml:1: top level: every key must be a text: write numbers and dates in quotes"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    with pytest.raises(ConfigError, match=r"cannot read .*c\.yaml: No such file"):
        config.load(path)
    path.write_bytes(BASE.encode() + b"data: \xff\xfe\n")
    with pytest.raises(ConfigError, match=rf"c\.yaml:{NEXT}: this is not UTF-8"):
        config.load(path)
    with pytest.raises(ConfigError, match=r"cannot read .*directory"):
        config.load(tmp_path)


def test_a_configuration_is_frozen() -> None:
    found: Config = config.parse(BASE)
    with pytest.raises(AttributeError):
        found.experiment = "other"  # type: ignore[misc]
