"""What is asked of a planned test: its metric, its levels, its traffic, and what is known of correlations.

Invariant: a question that exists can be answered; what can't is refused with the option's name. Durations are days,
effects are challenger − champion in the metric's own units: the sign of the effect says which direction is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal, Self

from evaluator.stats.alpha_spending import Spending
from evaluator.stats.cluster_robust import MOST_CORRELATION
from evaluator.stats.power import block_widening, cluster_design_effect
from evaluator.stats.sequential_test import HARM_RESERVE, HARM_SIDE, Plan, Side
from gauntlet.config.section import Seconds
from gauntlet.errors import BadInput

Form = Literal["split", "paired"]
FORMS: Final = ("split", "paired")
SPENDINGS: Final = ("mixed", "obrien-fleming", "pocock")
RAMP: Final = "0.01:2d,0.05:2d,0.1"
# More would only wait: nobody plans a test of a century, and no sample size of that order means anything.
MOST_SAMPLES: Final = 10**9
_DAY: Final = 86_400.0


def days(option: str, value: str | float) -> float:
    """A duration in days from `12h`, `7d` or a number of seconds, as the configuration writes them."""
    try:
        found = float(Seconds.parse(value)) / _DAY
    except (ValueError, TypeError) as error:
        raise BadInput(f"{option}: {error}") from error
    if not (math.isfinite(found) and found >= 0.0):
        raise BadInput(f"{option}: {value!r} is no duration")
    return found


def stages(value: str | Iterable[tuple[float, str | float]]) -> tuple[tuple[float, float], ...]:
    """Shares and days from `0.01:2d,0.05:2d,0.1`; the last stage lasts as long as it takes and needs no duration."""
    if isinstance(value, str):
        parts: list[Any] = [part.split(":") for part in value.split(",")]
    else:
        parts = [tuple(stage) if isinstance(stage, Iterable) else (stage,) for stage in value]
    found = []
    for place, part in enumerate(parts):
        if not 1 <= len(part) <= 2:
            raise BadInput(f"ramp: {part!r} is not SHARE:DURATION, such as in {RAMP}")
        given, time = part if len(part) == 2 else (part[0], "")
        try:
            share = float(given)
        except (TypeError, ValueError):
            raise BadInput(f"ramp: {given!r} is not a share, such as in {RAMP}") from None
        if not 0.0 < share < 1.0:
            raise BadInput(f"ramp: the share {share:g} does not lie strictly between 0 and 1")
        last = place == len(parts) - 1
        if not last and time in ("", None):
            raise BadInput(f"ramp: the stage {share:g} needs a duration, such as {share:g}:2d")
        lasts = math.inf if last else days("ramp", time)
        if not lasts > 0.0:
            raise BadInput(f"ramp: the stage {share:g} lasts {time!r}; stages last longer than nothing")
        found.append((share, lasts))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Question:
    """The settings of a plan; levels, blocks and the delay default to those of the configuration.

    baseline, effect: the champion's proportion or mean, and the smallest difference worth having.
    sd, challenger_sd: of one outcome, for a mean; without sd the metric is a proportion.
    alpha: two-sided, so a win is false with at most alpha / 2; harm_alpha: one-sided, for throwing a challenger out.
    discordance: share of pairs on which exactly one arm is right; sd_difference: of one pair's difference, for a mean.
    traffic: units a day; fraction: share of them that the other arm scores too, in shadow (paired).
    cluster_size, cluster_correlation: units that are assigned together, and the correlation of their outcomes.
    block_correlation: lag-1 correlation of the sums of blocks.
    independent: units are known to be independent, so that blocks need not be summed nor counted.
    min_samples: the horizon, where it is given; else the one that has the power.
    """

    baseline: float
    effect: float
    traffic: float
    sd: float | None = None
    challenger_sd: float | None = None
    alpha: float = 0.05
    harm_alpha: float = 0.05
    power: float = 0.8
    form: Form = "split"
    discordance: float | None = None
    sd_difference: float | None = None
    ramp: tuple[tuple[float, float], ...] = ((0.01, 2.0), (0.05, 2.0), (0.1, math.inf))
    fraction: float = 1.0
    delay: float = 1.0
    block: float = 1.0
    harm_block: float = 0.25
    min_blocks: int = 20
    min_harm_blocks: int = 5
    independent: bool = False
    cluster_size: int = 1
    cluster_correlation: float = 0.0
    block_correlation: float = 0.0
    spending: str = "mixed"
    min_samples: int | None = None

    @classmethod
    def of(cls, *, ramp: Any = RAMP, delay: Any = "1d", block: Any = "1d", harm_block: Any = None, **rest: Any) -> Self:
        """From durations as people write them. harm_block defaults to a quarter of the block, or to the block where
        blocks are correlated."""
        whole = days("block", block)
        quarter = whole if rest.get("block_correlation") else whole / 4.0
        fine = quarter if harm_block is None else days("harm-block", harm_block)
        return cls(ramp=stages(ramp), delay=days("delay", delay), block=whole, harm_block=fine, **rest)

    def __post_init__(self) -> None:
        self._numbers()
        self._metric()
        self._pairs()
        self._times()
        self._correlations()

    def _numbers(self) -> None:
        for name in (
            "baseline",
            "effect",
            "traffic",
            "power",
            "alpha",
            "harm_alpha",
            "fraction",
            "cluster_correlation",
            "block_correlation",
            "sd",
            "challenger_sd",
            "discordance",
            "sd_difference",
        ):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value)):
                raise BadInput(f"{_option(name)}: {value!r} is not a finite number")
        for name in ("effect", "sd", "challenger_sd", "sd_difference"):
            value = getattr(self, name)
            if value and not 1e-9 <= abs(value) <= 1e12:
                raise BadInput(f"{name}: {value:g} is beyond what can be computed with; choose another unit")
        if self.effect == 0.0:
            raise BadInput("effect: the smallest effect worth having is not 0; no test finds that")
        if not self.traffic > 0.0:
            raise BadInput(f"traffic: {self.traffic:g} units a day never answer anything")
        for name in ("alpha", "harm_alpha"):
            if not 0.0 < getattr(self, name) <= 0.4:
                raise BadInput(f"{_option(name)}: {getattr(self, name):g} is not above 0 and at most 0.4")
        if not self.alpha / 2.0 < self.power < 1.0:
            raise BadInput(f"power: {self.power:g} does not lie between alpha / 2 and 1")
        if self.form not in FORMS:
            raise BadInput(f"form: there is no {self.form!r}; known are {', '.join(FORMS)}")
        if self.spending not in SPENDINGS:
            raise BadInput(f"spending: there is no {self.spending!r}; known are {', '.join(SPENDINGS)}")
        if self.min_samples is not None and not 1 <= self.min_samples <= MOST_SAMPLES:
            raise BadInput(f"min-samples: {self.min_samples!r} is not from 1 to {MOST_SAMPLES:,}")
        for name in ("min_blocks", "min_harm_blocks"):
            if not 0 <= getattr(self, name) <= 10_000:
                raise BadInput(f"{_option(name)}: {getattr(self, name)!r} is not from 0 to 10,000")

    def _metric(self) -> None:
        if self.sd is None:
            if self.challenger_sd is not None:
                raise BadInput("challenger-sd: goes with --sd; a proportion has none of its own")
            if not 0.0 < self.baseline < 1.0:
                raise BadInput(
                    f"baseline: {self.baseline:g} is no proportion between 0 and 1; for a mean give --sd as well"
                )
            if not 0.0 < self.baseline + self.effect < 1.0:
                raise BadInput(f"effect: {self.baseline:g} {self.effect:+g} is no proportion between 0 and 1")
        for name in ("sd", "challenger_sd"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise BadInput(f"{_option(name)}: {value:g} is not above 0")

    def _pairs(self) -> None:
        if self.sd is None and self.sd_difference is not None:
            raise BadInput("sd-difference: goes with --sd; for a proportion give --discordance")
        if self.sd is not None and self.discordance is not None:
            raise BadInput("discordance: is for a proportion; for a mean give --sd-difference")
        if self.form == "paired" and self.discordance is None and self.sd_difference is None:
            wanted = "discordance: the paired form needs the share of requests on which exactly one arm is right"
            raise BadInput(wanted if self.sd is None else "sd-difference: the paired form needs that of one pair")
        if self.sd_difference is not None and not self.sd_difference > 0.0:
            raise BadInput(f"sd-difference: {self.sd_difference:g} is not above 0")
        if self.discordance is not None:
            low, high = least_discordance(self.baseline, self.effect), most_discordance(self.baseline, self.effect)
            if not low <= self.discordance <= high:
                raise BadInput(
                    f"discordance: {self.discordance:g} is impossible for {self.baseline:g} and an effect of "
                    f"{self.effect:+g}; it lies from {low:g} to {high:g}"
                )
        if not 0.0 < self.fraction <= 1.0:
            raise BadInput(f"fraction: {self.fraction:g} is not above 0 and at most 1")

    def _times(self) -> None:
        if not self.ramp:
            raise BadInput("ramp: has no stage")
        if not self.block > 0.0 or not self.harm_block > 0.0:
            raise BadInput("block: lasts longer than nothing")
        if not self.delay <= 3650.0:
            raise BadInput(f"delay: {self.delay:g} days is more than ten years")
        ratio = self.block / self.harm_block
        if ratio < 1.0 - 1e-9 or abs(ratio - round(ratio)) > 1e-6:
            raise BadInput(f"harm-block: {self.harm_block:g} days does not divide the block of {self.block:g} days")
        if self.block_correlation and ratio > 1.5:
            raise BadInput("harm-block: what finer blocks correlate by does not follow from --block-correlation")

    def _correlations(self) -> None:
        if self.cluster_size != int(self.cluster_size) or self.cluster_size < 1:
            raise BadInput(f"cluster-size: {self.cluster_size!r} is not a whole number of at least 1")
        if not 0.0 <= self.cluster_correlation < 1.0:
            raise BadInput(f"cluster-correlation: {self.cluster_correlation:g} is not in [0, 1)")
        if not 0.0 <= self.block_correlation <= MOST_CORRELATION:
            raise BadInput(f"block-correlation: {self.block_correlation:g} is not in [0, {MOST_CORRELATION}]")
        if (self.cluster_correlation > 0.0) != (self.cluster_size > 1):
            raise BadInput("cluster-size: goes with --cluster-correlation, each above nothing")
        if self.independent and (self.cluster_correlation or self.block_correlation):
            raise BadInput("independent: units of correlated clusters or blocks are not")
        if self.per_block < 1.0:
            raise BadInput(
                f"block: {self.per_block:.3g} {'clusters' if self.cluster_size > 1 else 'units'} come in a harm block "
                f"of {self.harm_block:g} days; a block needs one at least"
            )

    @property
    def per_block(self) -> float:
        """Clusters (of one unit, where there are none) that come in the finest block."""
        pairs = self.fraction if self.form == "paired" else 1.0
        return self.traffic * pairs * self.harm_block / self.cluster_size

    @property
    def proportion(self) -> bool:
        return self.sd is None

    @property
    def sign(self) -> float:
        """+1 where higher is better, −1 where lower is."""
        return math.copysign(1.0, self.effect)

    @property
    def share(self) -> float:
        """The challenger's share at the end of the ramp."""
        return self.ramp[-1][0]

    @cached_property
    def design_effect(self) -> float:
        """How much clusters and correlated blocks widen the variance, together."""
        return cluster_design_effect(self.cluster_size, self.cluster_correlation) * block_widening(
            self.block_correlation
        )

    def plan(self, horizon: float, mode: Any = "group-sequential") -> Plan:
        """The engine's plan for this horizon (information)."""
        spending: Any = self.spending
        return Plan(
            horizon=horizon,
            win=Side(self.alpha / 2.0, Spending(spending)),
            harm=replace(HARM_SIDE, alpha=self.harm_alpha, spending=Spending(spending, reserve=HARM_RESERVE)),
            mode=mode,
            clustered=not self.independent,
            min_blocks_win=self.min_blocks,
            min_blocks_harm=self.min_harm_blocks,
            effect=abs(self.effect),
        )

    def other(self) -> tuple[Question, bool]:
        """The same question in the other form, and whether the arms' agreement had to be assumed for it.

        Unknown agreement is taken as none at all: arms whose errors are independent of each other. Two models of one
        task agree far more than that, so it is what shadow scoring saves at least.
        """
        if self.form == "paired":
            return replace(self, form="split", min_samples=None), False
        known = self.discordance is not None or self.sd_difference is not None
        discordance, spread = self.discordance, self.sd_difference
        if not known and self.sd is None:
            p, q = self.baseline, self.baseline + self.effect
            discordance = p * (1.0 - q) + q * (1.0 - p)
        elif not known and self.sd is not None:
            spread = math.hypot(self.sd, self.challenger_sd or self.sd)
        other = replace(self, form="paired", discordance=discordance, sd_difference=spread, min_samples=None)
        return other, not known

    def to_dict(self) -> dict[str, Any]:
        given = asdict(self)
        given["ramp"] = [[share, None if math.isinf(lasts) else lasts] for share, lasts in self.ramp]
        return given


def least_discordance(baseline: float, effect: float) -> float:
    """Arms of these proportions are told apart by this share of the pairs at least."""
    return abs(effect)


def most_discordance(baseline: float, effect: float) -> float:
    """At most this share of pairs has exactly one arm right: no pair then has both wrong, or none both right."""
    together = 2.0 * baseline + effect
    return min(together, 2.0 - together)


def _option(name: str) -> str:
    return name.replace("_", "-")
