"""Settings of a planned test: its metric, its levels, its traffic, and what is known of correlations.

Invariant: settings that exist can be planned with; others are refused with the option's name and a remedy. Durations
are days. Effects are challenger − champion in the metric's own units: the sign of the effect says which way is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Final, Literal

import numpy as np

from evaluator.offline.records import PlainRecord, check_limits, flag, option
from evaluator.stats.alpha_spending import Spending
from evaluator.stats.cluster_robust import MOST_CORRELATION
from evaluator.stats.power import block_widening, cluster_design_effect
from evaluator.stats.score_process import Floats
from evaluator.stats.sequential_test import HARM_RESERVE, HARM_SIDE, Mode, Plan, Side, horizon_information
from gauntlet.config.section import Seconds
from gauntlet.errors import BadInput

Form = Literal["split", "paired"]
SpendingShape = Literal["mixed", "obrien-fleming", "pocock"]
Ramp = tuple[tuple[float, float], ...]
_RAMP: Final = "0.01:2d,0.05:2d,0.1"
# No sample size beyond this means anything.
_MOST_SAMPLES: Final = 1_000_000_000
_MOST_RUNS: Final = 1_000_000
# Sizes of effects and deviations that double precision can compute with.
_SIZES: Final = (1e-9, 1e12)
_DAY: Final = 86_400.0


class Days(float):
    """A duration in days, already converted from its written form."""


def days(option: str, value: str | float) -> Days:
    """A duration from `12h`, `7d` or a number of seconds, as the configuration writes them. Raises BadInput."""
    if isinstance(value, Days):
        return value
    try:
        found = float(Seconds.parse(value)) / _DAY
    except (ValueError, TypeError) as error:
        raise BadInput(f"{option} must be a duration: {error}") from error
    if not (math.isfinite(found) and found >= 0.0):
        raise BadInput(f"{option} must be a duration such as 12h or 7d, not {value!r}")
    return Days(found)


def stages(value: str | Iterable[Any]) -> Ramp:
    """Shares and days from `0.01:2d,0.05:2d,0.1`; the last stage lasts as long as it takes. Raises BadInput."""
    if isinstance(value, str):
        parts: list[Any] = [part.split(":") for part in value.split(",")]
    else:
        parts = [tuple(stage) if isinstance(stage, Iterable) else (stage,) for stage in value]
    found: list[tuple[float, float]] = []
    for part in parts:
        if not 1 <= len(part) <= 2:
            raise BadInput(f"--ramp must be stages SHARE:DURATION such as {_RAMP}, not {part!r}")
        try:
            share = float(part[0])
        except (TypeError, ValueError):
            raise BadInput(f"--ramp must have numbers as shares, such as {_RAMP}, not {part[0]!r}") from None
        if not 0.0 < share < 1.0:
            raise BadInput(f"--ramp must have shares between 0 and 1, both excluded, not {share:g}")
        if len(found) == len(parts) - 1:
            found.append((share, Days(math.inf)))
            break
        lasts = part[1] if len(part) == 2 else None
        if lasts in ("", None):
            raise BadInput(f"--ramp needs a duration for each stage but the last, such as {share:g}:2d")
        if not days("--ramp", lasts) > 0.0:
            raise BadInput(f"--ramp must have durations greater than 0; the stage {share:g} has {lasts!r}")
        found.append((share, days("--ramp", lasts)))
    if not found:
        raise BadInput(f"--ramp needs a stage, such as {_RAMP}")
    return tuple(found)


_metric = partial(option, group="what is looked for")
_traffic = partial(option, group="the traffic")
_correlated = partial(option, group="what is correlated")
_run = partial(option, group="the runs")


@dataclass(frozen=True, kw_only=True)
class PlanSettings(PlainRecord):
    """Levels, blocks and the delay default to those of the configuration.

    Durations and the ramp may be given as people write them (`12h`, a number of seconds) and are kept in days. Without
    `harm_block` it is a quarter of the block, or the block where blocks are correlated. Without `sd` the metric is a
    proportion. Raises BadInput.
    """

    baseline: float = _metric("the champion's proportion, or mean with --sd")
    effect: float = _metric("smallest difference worth having, with its sign")
    traffic: float = _traffic("units (requests, users) a day", above=0.0)
    sd: float | None = _metric("standard deviation of one outcome; the metric is then a mean", None, above=0.0)
    challenger_sd: float | None = _metric("the challenger's, where it differs from the champion's", None, above=0.0)
    alpha: float = _metric("Type I error of a win, two-sided", 0.05, above=0.0, most=0.4)
    harm_alpha: float = _metric("Type I error of calling harm, one-sided", 0.05, above=0.0, most=0.4)
    power: float = _metric("probability of finding the effect", 0.8, above=0.0, below=1.0)
    form: Form = _traffic("split: each request to one arm; paired: both arms score it (shadow)", "split")
    discordance: float | None = _traffic("paired form: share of requests on which exactly one arm is right", None)
    sd_difference: float | None = _traffic(
        "paired form of a mean: standard deviation of one pair's difference", None, above=0.0
    )
    ramp: Ramp = _traffic(
        "stages of the challenger's share and their times; the last needs none",
        stages(_RAMP),
        metavar="SHARE:TIME,…",
        written=_RAMP,
    )
    fraction: float = _traffic("paired form: share of requests that both arms score", 1.0, above=0.0, most=1.0)
    delay: float = _traffic("time from a prediction until its outcome counts", Days(1.0), metavar="TIME", written="1d")
    block: float = _correlated(
        "span of time within which outcomes may be correlated", Days(1.0), metavar="TIME", written="1d"
    )
    harm_block: float = _correlated(
        "the same for the harm side; default: a quarter of the block", None, metavar="TIME", written=""
    )
    min_blocks: int = _correlated("fewest blocks for a win", 20, least=0, most=10_000)
    min_harm_blocks: int = _correlated("fewest harm blocks for harm", 5, least=0, most=10_000)
    independent: bool = _correlated("units are known to be independent, so no blocks are needed", False)
    cluster_size: int = _correlated("units that are assigned together, such as one user's", 1, least=1)
    cluster_correlation: float = _correlated("correlation of the outcomes within a cluster", 0.0, least=0.0, below=1.0)
    block_correlation: float = _correlated(
        "correlation of the sums of neighbouring blocks", 0.0, least=0.0, most=MOST_CORRELATION
    )
    spending: SpendingShape = _metric("how the error budget is spent over the looks", "mixed")
    min_samples: int | None = _metric(
        "planned outcomes of the challenger, or pairs; default: as many as the power needs",
        None,
        least=1,
        most=_MOST_SAMPLES,
    )

    def __post_init__(self) -> None:
        for name in ("delay", "block"):
            object.__setattr__(self, name, days(flag(name), getattr(self, name)))
        fine = Days(self.block if self.block_correlation else self.block / 4.0)
        fine = fine if self.harm_block is None else days("--harm-block", self.harm_block)
        object.__setattr__(self, "harm_block", fine)
        object.__setattr__(self, "ramp", stages(self.ramp))
        check_limits(self)
        self._check_effect()
        self._check_pairs()
        self._check_blocks()

    def _check_effect(self) -> None:
        for name in ("effect", "sd", "challenger_sd", "sd_difference"):
            value = getattr(self, name)
            if value and not _SIZES[0] <= abs(value) <= _SIZES[1]:
                raise BadInput(
                    f"{flag(name)} must be from {_SIZES[0]:g} to {_SIZES[1]:g}, not {value:g}: rescale the unit"
                )
        if self.effect == 0.0:
            raise BadInput("--effect must not be 0: give the smallest difference worth having")
        if self.power <= self.alpha / 2.0:
            raise BadInput(f"--power must be greater than half of --alpha, {self.alpha / 2.0:g}, not {self.power:g}")
        if self.sd is not None:
            return
        if self.challenger_sd is not None:
            raise BadInput("--challenger-sd needs --sd; leave it out for a proportion")
        if not 0.0 < self.baseline < 1.0:
            raise BadInput(
                f"--baseline must be between 0 and 1 for a proportion, not {self.baseline:g}; a mean needs --sd"
            )
        if not 0.0 < self.baseline + self.effect < 1.0:
            raise BadInput(
                f"--effect must leave the challenger's proportion between 0 and 1, not at {self.baseline:g} "
                f"{self.effect:+g}"
            )

    def _check_pairs(self) -> None:
        if self.sd is None and self.sd_difference is not None:
            raise BadInput("--sd-difference needs --sd; for a proportion give --discordance")
        if self.sd is not None and self.discordance is not None:
            raise BadInput("--discordance can't be combined with --sd; for a mean give --sd-difference")
        if self.form == "paired" and self.discordance is None and self.sd_difference is None:
            option = "--discordance" if self.sd is None else "--sd-difference"
            raise BadInput(f"--form paired needs {option}")
        if self.discordance is not None:
            low, high = abs(self.effect), most_discordance(self.baseline, self.effect)
            if not low <= self.discordance <= high:
                raise BadInput(
                    f"--discordance must be from {low:g} to {high:g} for a baseline of {self.baseline:g} and an effect "
                    f"of {self.effect:+g}, not {self.discordance:g}"
                )

    def _check_blocks(self) -> None:
        for name in ("block", "harm_block"):
            if not getattr(self, name) > 0.0:
                raise BadInput(f"{flag(name)} must be greater than 0")
        if not self.delay <= 3650.0:
            raise BadInput(f"--delay must be at most ten years, not {self.delay:g} days")
        ratio = self.block / self.harm_block
        if ratio < 1.0 - 1e-9 or abs(ratio - round(ratio)) > 1e-6:
            raise BadInput(
                f"--harm-block must divide --block: {self.harm_block:g} days don't divide {self.block:g} days"
            )
        if self.block_correlation and ratio > 1.5:
            raise BadInput("--harm-block can't be finer than --block when --block-correlation is given")
        if (self.cluster_correlation > 0.0) != (self.cluster_size > 1):
            raise BadInput(
                "--cluster-size (at least 2) and --cluster-correlation (greater than 0) must be given together"
            )
        for name in ("cluster_correlation", "block_correlation"):
            if self.independent and getattr(self, name):
                raise BadInput(f"--independent can't be combined with {flag(name)}")
        pairs = self.fraction if self.form == "paired" else 1.0
        per_block = self.traffic * pairs * self.harm_block / self.cluster_size
        if per_block < 1.0:
            raise BadInput(
                f"--block must be longer, or --traffic larger: {per_block:.3g} "
                f"{'clusters' if self.cluster_size > 1 else 'units'} come in a harm block of {self.harm_block:g} days, "
                "and a block needs one"
            )

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

    def horizon(self, samples: int) -> float:
        """Information that so many outcomes of the challenger, or pairs, carry."""
        return horizon_information(samples, None if self.form == "paired" else self.share)

    def samples(self, information: float) -> float:
        """Outcomes of the challenger, or pairs, that carry so much information."""
        return information / (1.0 if self.form == "paired" else 1.0 - self.share)

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

    def other(self) -> tuple[PlanSettings, bool]:
        """The same settings in the other form, and whether the arms' agreement had to be assumed for it.

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


def most_discordance(baseline: float, effect: float) -> float:
    """At most this share of pairs has exactly one arm right: no pair then has both wrong, or none both right."""
    together = 2.0 * baseline + effect
    return min(together, 2.0 - together)


@dataclass(frozen=True, kw_only=True)
class SimulatedWorld:
    """Changes of the simulated outcomes over time, and their skewness. Raises BadInput.

    drift: the baseline moves evenly by this much from the first day to the planned horizon. weekly: it swings by ± this
    much with the days of the week. skewness: of one outcome of a mean (paired: of one pair's difference).
    """

    drift: float = _run("by how much the baseline moves until the horizon", 0.0)
    weekly: float = _run("by how much the baseline swings up and down over a week", 0.0)
    skewness: float = _run("skewness of one outcome, where the metric is a mean", 0.0, least=-50.0, most=50.0)

    def __post_init__(self) -> None:
        check_limits(self)

    def baseline(self, settings: PlanSettings, day: Floats, horizon: float) -> Floats:
        """The champion's mean at these days, not oriented."""
        moved = self.drift * np.minimum(1.0, day / horizon) + self.weekly * np.sin(2.0 * math.pi * day / 7.0)
        return np.asarray(settings.baseline + moved)

    def check_against(self, settings: PlanSettings, effects: Iterable[float], horizon: float) -> None:
        """Raises BadInput where a plan's outcomes would be impossible in this world; effects are oriented."""
        if not settings.proportion:
            return
        if self.skewness:
            raise BadInput("--skewness needs --sd: the skewness of a proportion follows from it")
        days = np.linspace(0.0, horizon, 2000)
        for effect in (0.0, *(settings.sign * one for one in effects)):
            reached = self.baseline(settings, days, horizon) + effect
            if not (reached.min() > 0.0 and reached.max() < 1.0):
                option = "--drift" if self.drift else "--weekly"
                raise BadInput(
                    f"{option} must keep the proportions between 0 and 1, not from {reached.min():.3g} to "
                    f"{reached.max():.3g}"
                )


@dataclass(frozen=True, kw_only=True)
class SimulationSettings:
    """How many runs, which random numbers, and the stopping rule that is simulated. Raises BadInput."""

    runs: int = _run("runs of each true effect", 2000, least=1, most=_MOST_RUNS)
    seed: int = _run("the same seed gives the same answer", 0, least=0)
    mode: Mode = _run("which test decides when a run stops", "group-sequential")

    def __post_init__(self) -> None:
        check_limits(self)
