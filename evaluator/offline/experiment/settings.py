"""What a person asks of an analysis, as one checked record: `AnalysisSettings`, and metrics from their written form.

Invariant: settings that contradict themselves can't be built, and every refusal names the option that it is about.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from evaluator.offline.records import PlainRecord, by_field, check_limits, check_names, column, option
from evaluator.stats.metrics.declaration import KINDS, NAMES, Metric, MetricError, Role, declare, parse_kind
from gauntlet.errors import BadInput
from gauntlet.spelling import canonical, did_you_mean

Mode = Literal["group-sequential", "anytime", "exact", "msprt", "sprt", "fixed"]
ROLES: tuple[str, ...] = get_args(Role)
_MOST_SAMPLES = 1_000_000_000
# Without any other word, both numbers of a row are losses.
_PAIRED_METRIC = "loss:mean:lower"
# Kinds that say nothing about a direction; in the paired form the numbers are losses.
_NEUTRAL = ("mean", "proportion")


class SettingsError(BadInput):
    """Settings that contradict themselves or the data; the message names the option and a remedy."""

    code = "bad_settings"


@dataclass(frozen=True, kw_only=True)
class AnalysisSettings(PlainRecord):
    """What to compare and how. Raises SettingsError.

    Exactly one of `shares` (by arm, adding up to 1), `propensity` (column with P(challenger)) and `paired` (columns of
    champion and challenger on the same row) is given; all but `paired` need `arm`. Without `challengers` every other
    value of the arm column is one. Without `min_samples` the evidence is complete when the file ends; without
    `look_every` a look follows when rows grew by 2 % and by at least 100. `from_options` makes them from options as
    people write them.
    """

    arm: str | None = column("which arm a row belongs to", None)
    champion: str = option("the champion's value in the arm column", "", metavar="VALUE")
    challengers: tuple[str, ...] = option(
        "again for each; default: every other value", (), name="challenger", repeated=True, metavar="VALUE"
    )
    metrics: tuple[Metric, ...] = option("again for each; see below", (), name="metric", repeated=True, metavar="SPEC")
    shares: Mapping[str, float] | None = option(
        "each arm's share of the traffic, constant", None, name="share", repeated=True, metavar="VALUE=0.5,…"
    )
    propensity: str | None = column("logged probability of the challenger when the row was assigned", None)
    paired: tuple[str, str] | None = option(
        "shadow log: the champion's and the challenger's loss on a row", None, metavar="COLUMN,COLUMN"
    )
    unit: str | None = column("who was assigned, to find those that met several arms", None)
    cluster: str | None = column("rows with the same value are correlated, as those of a day", None)
    covariates: tuple[str, ...] = column(
        "a value known before the assignment, to lower the variance (CUPED)", (), name="covariate", repeated=True
    )
    segments: tuple[str, ...] = column("compare within each of its values, too", (), name="segment", repeated=True)
    time: str | None = column("order of the rows: numbers or ISO times; default: the order of the file", None)
    mode: Mode = option("which test decides, and when it may stop; see docs/analyze.md", "group-sequential")
    alpha: float = option("Type I error, two-sided", 0.05, above=0.0, most=0.5)
    min_samples: int | None = option(
        "planned number of the challenger's outcomes; default: those of the whole file",
        None,
        least=1,
        most=_MOST_SAMPLES,
    )
    look_every: int | None = option("rows between looks; default: 2 % more rows, at least 100", None, least=1)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], columns: Collection[str] = ()) -> AnalysisSettings:
        """The settings from options as people write them. Raises SettingsError, and TypeError for an option that there
        isn't.

        `columns` are the table's (they tell a metric such as `accuracy` from a column of that name). One value does
        where several are meant. Arms may be numbers or truth values; they are compared as a table writes them.
        """
        check_names(options, cls)
        given = by_field(cls, options)
        for name in ("challengers", "metrics", "covariates", "segments"):
            given[name] = tuple(_several(given.get(name)))
        if given.get("paired") is not None:
            given |= {"paired": _pair(given["paired"]), "arm": None}  # both arms are on every row
            given["challengers"] = given["challengers"] or ("challenger",)
            given["metrics"] = given["metrics"] or (_PAIRED_METRIC,)
        champion = given.get("champion")
        if champion is None:
            champion = "" if given.get("paired") is None else "champion"
        given["champion"] = _value(champion)
        given["challengers"] = tuple(map(_value, given["challengers"]))
        given["metrics"] = _metrics(given["metrics"], columns, paired=given.get("paired") is not None)
        given["shares"] = None if given.get("shares") is None else _shares(given["shares"])
        return cls(**given)

    def __post_init__(self) -> None:
        check_limits(self, SettingsError)
        self._check_design()
        self._check_arms()
        self._check_metrics()

    def _check_design(self) -> None:
        designs = {"--share": self.shares, "--propensity": self.propensity, "--paired": self.paired}
        given = [flag for flag, value in designs.items() if value is not None]
        if len(given) != 1:
            raise SettingsError(
                "give exactly one of --share (the arms' shares), --propensity (a column) and --paired (two columns) to "
                f"say how rows came to their arms, not {' and '.join(given) or 'none'}"
            )
        if self.paired is None and self.arm is None:
            raise SettingsError("--arm is needed: name the column that says which arm a row belongs to")
        if self.paired is not None and self.paired[0] == self.paired[1]:
            raise SettingsError(f"--paired needs two columns, not {self.paired[0]!r} twice")
        for arm, share in (self.shares or {}).items():
            if not (math.isfinite(share) and share > 0.0):
                raise SettingsError(f"--share must be a positive number for each arm, not {share!r} for {arm!r}")
        if self.shares is not None and not math.isclose(sum(self.shares.values()), 1.0, rel_tol=1e-9):
            raise SettingsError(f"--share must have shares that add up to 1, not to {sum(self.shares.values()):g}")

    def _check_arms(self) -> None:
        if not self.champion:
            raise SettingsError("--champion is needed: name the champion's value in the arm column")
        if self.champion in self.challengers:
            raise SettingsError(f"--challenger must not be the champion, {self.champion!r}")
        if len(set(self.challengers)) < len(self.challengers):
            raise SettingsError("--challenger names a challenger twice")
        if len(self.challengers) != 1 and self.paired is not None:
            raise SettingsError("--challenger can be given only once with --paired")
        if len(self.challengers) > 1 and self.propensity is not None:
            raise SettingsError("--challenger can be given only once with --propensity, which is P(challenger)")
        if self.shares is not None:
            missing = [arm for arm in (self.champion, *self.challengers) if arm not in self.shares]
            if missing:
                known = ", ".join(map(repr, self.shares))
                raise SettingsError(f"--share needs a share for {missing[0]!r} too; it has them for {known}")
            if len(self.shares) < 2:
                raise SettingsError("--share needs a share for every arm, such as champion=0.9,challenger=0.1")

    def _check_metrics(self) -> None:
        if not self.metrics:
            raise SettingsError("--metric is needed: name at least one, such as loss:mean:lower")
        names = [metric.name for metric in self.metrics]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SettingsError(f"--metric names {twice[0]!r} twice")
        measured = {column for metric in self.metrics for side in self.inputs(metric) for column in side}
        for name, columns in (("--covariate", self.covariates), ("--segment", self.segments)):
            if len(set(columns)) < len(columns):
                raise SettingsError(f"{name} names a column twice")
            if self.arm in columns:
                raise SettingsError(f"{name} must not be the arm column, {self.arm!r}")
        for name in measured.intersection(self.covariates):
            raise SettingsError(
                f"--covariate must be known before the arm is drawn, and {name!r} is measured by a metric"
            )

    def inputs(self, metric: Metric) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The columns that the metric reads for a champion's and for a challenger's row.

        They differ in the paired form alone: the first input comes from the arm's own column there, and a second one
        (an outcome, a denominator) is shared.
        """
        if self.paired is None:
            return metric.columns, metric.columns
        champion, challenger = self.paired
        return (champion, *metric.columns[1:]), (challenger, *metric.columns[1:])


def parse_metric(text: str, columns: Collection[str] = (), *, paired: bool = False) -> Metric:
    """A metric from `column[:kind][:direction][:role][:margin=x][:min=N]`, the tokens in any order.

    The column is one name, or `numerator/denominator`, or `prediction/outcome` for kinds that compare the two; such a
    kind alone reads the columns of these names, unless `columns` has one called like the kind. Raises SettingsError.
    """
    column, *tokens = text.split(":")
    found: dict[str, str] = {}
    for token in tokens:
        sort = _sort(token, text)
        if sort in found:
            raise SettingsError(f"--metric {text!r}: {found[sort]!r} and {token!r} are both a {sort}")
        found[sort] = token
    kind = found.get("kind")
    alone = _compares(column) and column not in columns
    if kind is None and alone:
        column, kind = "", column
    kind = kind or ("ratio" if "/" in column else "mean")
    parts = _columns(column, kind, text)
    missing = [name for name in parts[paired:] if columns and not column and name not in columns]
    if missing:
        raise SettingsError(
            f"--metric {text!r} reads the columns {' and '.join(parts[paired:])}, and there is no {missing[0]!r}; name "
            f"others as in my_{parts[0]}/my_{parts[1]}:{kind}"
        )
    margin = _number(found.get("margin", "margin=0"), text)
    role = found.get("role", "guardrail" if "margin" in found else "primary")
    higher = None
    if "direction" in found:
        higher = found["direction"] == "higher"
    elif paired and kind in _NEUTRAL:
        higher = False
    try:
        return declare(
            kind if _compares(kind) else column,
            kind,
            parts,
            higher_is_better=higher,
            role=cast(Role, role),
            margin=margin,
            min_samples=_whole(found.get("min", "min=0"), text),
        )
    except MetricError as error:
        raise SettingsError(f"--metric {text!r}: {error}") from error


def kind_text(metric: Metric) -> str:
    """The kind as people write it: p99, recall@spam, mean."""
    if metric.level is not None:
        return f"p{100.0 * metric.level:g}"
    return metric.kind if metric.positive is None else f"{metric.kind}@{metric.positive}"


def _sort(token: str, text: str) -> str:
    """Sort of a token: kind, direction, role, margin or min."""
    if token in ("higher", "lower"):
        return "direction"
    if token in ROLES:
        return "role"
    if token.startswith("margin="):
        return "margin"
    if token.startswith("min="):
        return "min"
    try:
        parse_kind(token)
    except MetricError:
        hint = did_you_mean(token, [*NAMES, *ROLES, "higher", "lower"])
        raise SettingsError(
            f"--metric {text!r}: {token!r} is not a kind; {hint and hint + ' '}there are the kinds {', '.join(NAMES)}, "
            f"and p99 for a quantile; the directions higher and lower; the roles {', '.join(ROLES)}; margin=x and min=N"
        ) from None
    return "kind"


def _compares(kind: str) -> bool:
    """True for kinds that compare a prediction or a score with an outcome."""
    try:
        return KINDS[parse_kind(kind)[0]].inputs[1:] == ("outcome",)
    except MetricError:
        return False


def _columns(column: str, kind: str, text: str) -> tuple[str, ...]:
    inputs = KINDS[parse_kind(kind)[0]].inputs
    if len(inputs) == 1:  # a slash is part of the name
        parts = [column]
    elif _compares(kind):
        first, _, second = column.partition("/")
        parts = [first or inputs[0], second or inputs[1]] if column else list(inputs)
    else:
        parts = column.split("/")
    if len(parts) != len(inputs) or not all(parts):
        form = "/".join(inputs)
        raise SettingsError(f"--metric {text!r}: {kind} is written {form}:{kind}" if column else _nameless(text))
    return tuple(parts)


def _nameless(text: str) -> str:
    return f"--metric {text!r}: a column comes first, as in loss:mean:lower"


def _number(token: str, text: str) -> float:
    name, _, value = token.partition("=")
    try:
        return float(value)
    except ValueError:
        raise SettingsError(f"--metric {text!r}: {name} {value!r} is not a number") from None


def _whole(token: str, text: str) -> int:
    value = token.partition("=")[2]
    if not value.isdecimal():
        raise SettingsError(f"--metric {text!r}: min {value!r} is not a whole number")
    return int(value)


def _metrics(given: Sequence[str | Metric], columns: Collection[str], *, paired: bool) -> tuple[Metric, ...]:
    """Metrics from their written form; names that clash are completed by column and kind."""
    metrics = [one if isinstance(one, Metric) else parse_metric(one, columns, paired=paired) for one in given]
    names = [metric.name for metric in metrics]
    return tuple(
        replace(metric, name=f"{'/'.join(metric.columns)}:{kind_text(metric)}")
        if names.count(metric.name) > 1 and not isinstance(one, Metric)
        else metric
        for metric, one in zip(metrics, given, strict=True)
    )


def _shares(given: str | Mapping[Any, float] | Iterable[str]) -> dict[str, float]:
    """Shares that add up to 1, from numbers in any unit (percent, weights)."""
    pairs: list[tuple[str, float]]
    if isinstance(given, Mapping):
        pairs = [(_value(arm), _share(_value(arm), share)) for arm, share in given.items()]
    else:
        pairs = []
        if not all(isinstance(part, str) for part in _several(given)):
            raise SettingsError("--share must say whose each share is, such as {'old': 0.9, 'new': 0.1}")
        for part in ",".join(_several(given)).split(","):
            arm, equals, share = part.rpartition("=")
            if not (equals and arm):
                raise SettingsError(f"--share must be of the form VALUE=0.5, not {part!r}")
            pairs.append((_value(arm.strip()), _share(arm, share)))
    arms = [arm for arm, _ in pairs]
    if len(set(arms)) < len(arms):
        raise SettingsError("--share names an arm twice")
    total = math.fsum(share for _, share in pairs)
    return {arm: share / total for arm, share in pairs}


def _share(arm: str, share: object) -> float:
    try:
        number = float(str(share).removesuffix("%"))
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0.0):
        raise SettingsError(f"--share must be a positive number for each arm, not {share!r} for {arm!r}")
    return number


def _pair(given: str | Sequence[str]) -> tuple[str, str]:
    parts = given.split(",") if isinstance(given, str) else list(given)
    if len(parts) != 2 or not all(parts):
        raise SettingsError(f"--paired must be CHAMPION_COLUMN,CHALLENGER_COLUMN, not {given!r}")
    return parts[0].strip(), parts[1].strip()


def _several(given: Any) -> list[Any]:
    """A list of the given value or values; a text is one value."""
    if given is None:
        return []
    if isinstance(given, Iterable) and not isinstance(given, str):
        return list(given)
    return [given]


def _value(arm: object) -> str:
    """An arm as a table has it, whatever it is written as: `True` is true, and 1.0 is 1."""
    return canonical(str(arm))
