"""Settings of an analysis: metrics in their written form, options as people write them, and every refusal."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from evaluator.offline.experiment.settings import AnalysisSettings, Mode, SettingsError, kind_text, parse_metric
from evaluator.stats.metrics.declaration import Metric


def asked(**options: Any) -> AnalysisSettings:
    return AnalysisSettings.from_options(options)


GOOD: dict[str, Any] = {"arm": "arm", "champion": "a", "metric": "loss", "share": "a=0.9,b=0.1"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clicked", Metric("clicked", "mean", ("clicked",), True)),
        ("loss:lower", Metric("loss", "mean", ("loss",), False)),
        ("loss:lower:mean", Metric("loss", "mean", ("loss",), False)),
        ("won:proportion", Metric("won", "proportion", ("won",), True)),
        ("ms:p99", Metric("ms", "quantile", ("ms",), False, level=0.99)),
        ("ms:p99.5:higher", Metric("ms", "quantile", ("ms",), True, level=0.995)),
        ("revenue/visits", Metric("revenue/visits", "ratio", ("revenue", "visits"), True)),
        ("revenue/visits:ratio:lower", Metric("revenue/visits", "ratio", ("revenue", "visits"), False)),
        ("a/b:mean", Metric("a/b", "mean", ("a/b",), True)),
        ("accuracy", Metric("accuracy", "accuracy", ("prediction", "outcome"), True)),
        ("log_loss", Metric("log_loss", "log_loss", ("score", "outcome"), False)),
        ("recall@spam", Metric("recall@spam", "recall", ("prediction", "outcome"), True, positive="spam")),
        ("p:auc", Metric("auc", "auc", ("p", "outcome"), True)),
        ("p/label:auc", Metric("auc", "auc", ("p", "label"), True)),
        ("guess:rmse", Metric("rmse", "rmse", ("guess", "outcome"), False)),
        ("ms:p99:margin=20", Metric("ms", "quantile", ("ms",), False, "guardrail", 20.0, level=0.99)),
        ("ms:margin=1e-3:primary", Metric("ms", "mean", ("ms",), True, "primary", 0.001)),
        ("x:exploratory:min=500", Metric("x", "mean", ("x",), True, "exploratory", min_samples=500)),
        ("x:min=5:signal:lower:margin=.5:mean", Metric("x", "mean", ("x",), False, "signal", 0.5, 5)),
    ],
)
def test_a_metric_as_it_is_written(text: str, expected: Metric) -> None:
    assert parse_metric(text) == expected


def test_a_column_called_like_a_kind_is_the_column() -> None:
    assert parse_metric("accuracy", ["arm", "accuracy"]) == Metric("accuracy", "mean", ("accuracy",), True)
    assert parse_metric("accuracy", ["prediction", "outcome"]).columns == ("prediction", "outcome")
    assert parse_metric("error_rate").columns == ("error_rate",), "a kind of one column does not stand alone"


def test_a_kind_that_stands_alone_says_which_columns_it_reads() -> None:
    with pytest.raises(
        SettingsError, match=r"'auc' reads the columns score and outcome, and there is no 'score'; name "
    ):
        parse_metric("auc", ["arm", "outcome"])


def test_a_loss_on_a_paired_row_is_better_low() -> None:
    assert parse_metric("x", paired=True).higher_is_better is False
    assert parse_metric("x:proportion", paired=True).higher_is_better is False
    assert parse_metric("x:higher", paired=True).higher_is_better is True
    assert parse_metric("x:reward", paired=True).higher_is_better is True
    assert parse_metric("accuracy", paired=True).higher_is_better is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "x:median",
            "metric 'x:median': 'median' is not a kind; .*kinds mean, .*; the directions higher and lower; the roles",
        ),
        ("x:p0", "'p0' is not a kind"),
        ("x:Lower", "'Lower' is not a kind"),
        ("x:higher:lower", "'higher' and 'lower' are both a direction"),
        ("x:mean:p99", "'mean' and 'p99' are both a kind"),
        ("x:signal:primary", "both a role"),
        ("x:margin=1:margin=2", "both a margin"),
        ("x:margin=wide", "margin 'wide' is not a number"),
        ("x:margin=-1", "margin"),
        ("x:margin=nan", "margin"),
        ("x:min=1.5", "min '1.5' is not a whole number"),
        ("x:min=-1", "min '-1' is not a whole number"),
        ("", "a column comes first"),
        (":mean", "a column comes first"),
        ("x:", "'' is not a kind"),
        ("x:ratio", "ratio is written numerator/denominator:ratio"),
        ("x/", "ratio is written"),
        ("a/b/c", "ratio is written"),
        ("x:mean@y", "is not a kind"),
    ],
)
def test_a_metric_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_metric(text)


def test_kinds_in_their_written_form() -> None:
    for kind in ("mean", "p99", "p99.9", "p50", "recall@spam", "log_loss"):
        assert kind_text(parse_metric(f"x:{kind}")) == kind


def test_names_that_clash_say_more() -> None:
    def names(*metrics: str) -> list[str]:
        return [metric.name for metric in asked(**GOOD | {"metric": metrics}).metrics]

    assert names("ms", "loss") == ["ms", "loss"]
    assert names("ms", "ms:p99", "loss") == ["ms:mean", "ms:p99", "loss"]
    assert names("p:auc", "q:auc", "accuracy") == ["p/outcome:auc", "q/outcome:auc", "accuracy"]
    with pytest.raises(SettingsError, match="--metric names 'ms:p99' twice"):
        names("ms:p99", "ms:p99")


def test_options_as_a_person_writes_them() -> None:
    settings = asked(
        arm="arm",
        champion=False,
        challenger=True,
        metric=["x", Metric("y", "mean", ("z",), False)],
        share={False: 90, True: "10"},
        segment="country",
        covariate=["age"],
        mode="anytime",
        alpha=0.1,
        look_every=10,
    )
    assert (settings.champion, settings.challengers) == ("false", ("true",))
    assert settings.shares == pytest.approx({"false": 0.9, "true": 0.1})
    assert [metric.name for metric in settings.metrics] == ["x", "y"]
    assert (settings.segments, settings.covariates) == (("country",), ("age",))


@pytest.mark.parametrize("champion", [1, 1.0, np.int64(1), np.float64(1.0), "1"])
def test_arms_that_are_numbers(champion: object) -> None:
    settings = asked(**GOOD | {"champion": champion, "share": {champion: 1, 2: 1}})
    assert settings.champion == "1"
    assert settings.shares == {"1": 0.5, "2": 0.5}


@pytest.mark.parametrize(
    "share", ["a=50,b=50", "a=50%,b=50%", ["a=0.5", "b=0.5"], {"a": 3, "b": 3.0}, " a=1,b=1", "a=0.5,b=.5"]
)
def test_shares_in_any_unit(share: Any) -> None:
    assert asked(**GOOD | {"share": share}).shares == {"a": 0.5, "b": 0.5}


def test_an_arm_with_an_equals_sign() -> None:
    settings = asked(**GOOD | {"champion": "v=1", "share": "v=1=0.25,v=2=0.75"})
    assert settings.shares == {"v=1": 0.25, "v=2": 0.75}


def test_a_paired_log_needs_nothing_else() -> None:
    settings = asked(paired="old,new")
    assert (settings.paired, settings.champion, settings.challengers) == (("old", "new"), "champion", ("challenger",))
    (metric,) = settings.metrics
    assert metric == Metric("loss", "mean", ("loss",), False)
    assert settings.inputs(metric) == (("old",), ("new",))
    named = asked(paired=["old", "new"], champion="v1", challenger="v2", metric="accuracy")
    assert (named.champion, named.challengers) == ("v1", ("v2",))
    assert named.inputs(named.metrics[0]) == (("old", "outcome"), ("new", "outcome")), "the outcome is shared"
    assert asked(paired="old,new", arm="arm").arm is None, "both arms are on every row"


def test_rows_of_both_arms_have_the_same_inputs() -> None:
    settings = asked(**GOOD | {"metric": "p/label:auc"})
    assert settings.inputs(settings.metrics[0]) == (("p", "label"), ("p", "label"))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"share": None}, "exactly one of --share .*, not none"),
    ({"propensity": "p"}, "exactly one of .*, not --share and --propensity"),
    ({"paired": "a,b"}, "not --share and --paired"),
    ({"share": None, "paired": "x,x", "arm": None}, "two columns, not 'x' twice"),
    ({"share": None, "paired": "x", "arm": None}, "--paired must be CHAMPION_COLUMN,CHALLENGER_COLUMN"),
    ({"share": None, "paired": "x,", "arm": None}, "--paired must be CHAMPION_COLUMN,CHALLENGER_COLUMN"),
    ({"share": None, "paired": "x,y", "arm": None, "challenger": ["b", "c"]}, "only once with --paired"),
    ({"arm": None}, "--arm is needed"),
    ({"champion": None}, "--champion is needed"),
    ({"challenger": "a"}, "--challenger must not be the champion, 'a'"),
    ({"challenger": ["b", "b"]}, "names a challenger twice"),
    ({"challenger": "c"}, "--share needs a share for 'c' too; it has them for 'a', 'b'"),
    ({"share": [0.9, 0.1]}, r"--share must say whose each share is, such as \{'old': 0.9, 'new': 0.1\}"),
    ({"share": "b=1,c=1"}, "--share needs a share for 'a'"),
    ({"share": "a=1"}, "for every arm"),
    ({"share": "a=1,a=1"}, "names an arm twice"),
    ({"share": "a"}, r"must be of the form VALUE=0\.5, not 'a'"),
    ({"share": "a=half,b=0.5"}, "must be a positive number for each arm, not 'half' for 'a'"),
    ({"share": {"a": 0, "b": 1}}, "a positive number for each arm, not 0 for 'a'"),
    ({"share": {"a": -1, "b": 1}}, "must be a positive number"),
    ({"share": {"a": float("inf"), "b": 1}}, "must be a positive number"),
    ({"share": {"a": float("nan"), "b": 1}}, "must be a positive number"),
    ({"share": None, "propensity": "p", "challenger": ["b", "c"]}, "only once with --propensity"),
    ({"metric": ()}, "--metric is needed"),
    ({"segment": ["c", "c"]}, "--segment names a column twice"),
    ({"segment": "arm"}, "--segment must not be the arm column, 'arm'"),
    ({"covariate": "loss"}, "--covariate .* 'loss' is measured by a metric"),
    ({"mode": "bayes"}, "--mode must be one of group-sequential, .*, not 'bayes'"),
    ({"alpha": 0.0}, "--alpha must be greater than 0"),
    ({"alpha": 1.0}, "alpha"),
    ({"alpha": float("nan")}, "alpha"),
    ({"min_samples": 0}, "--min-samples must be at least 1 and at most 1,000,000,000, not 0"),
    ({"min_samples": 10**10}, "min-samples"),
    ({"look_every": 0}, "--look-every must be at least 1, not 0"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[str(change) for change, _ in REFUSED])
def test_what_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        asked(**GOOD | change)


def test_the_record_refuses_shares_that_do_not_add_up() -> None:
    settings = asked(**GOOD)
    with pytest.raises(SettingsError, match=r"add up to 1, not to 1\.2"):
        replace(settings, shares={"a": 0.6, "b": 0.6})


@pytest.mark.parametrize("mode", get_args(Mode))
def test_settings_fit_for_json(mode: str) -> None:
    settings = asked(**GOOD | {"mode": mode, "segment": "country"})
    data = json.loads(json.dumps(settings.to_dict()))
    assert (data["mode"], data["shares"], data["segments"]) == (mode, {"a": 0.9, "b": 0.1}, ["country"])
    assert data["metrics"][0]["name"] == "loss"
    assert AnalysisSettings.__dataclass_params__.frozen  # type: ignore[attr-defined]
