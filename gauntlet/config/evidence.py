"""How a challenger is judged: the settings of its evidence and of its guardrails."""

from __future__ import annotations

from math import ceil, floor
from typing import Annotated, Literal

from msgspec import Meta

from gauntlet.config.section import (
    BlockLength,
    Fraction,
    NonNegative,
    Positive,
    Seconds,
    Section,
    check,
    check_decimals,
)
from gauntlet.types import Label

CYCLE_PARTS = 24
"""With `block: auto`, blocks are this part of the cycle: hours of a day."""

MIN_CYCLES = 5
"""With `block: auto`, whole cycles before a win."""

ROOM = 1.25
"""With an explicit `block`: as many times `min_blocks` are planned with, so that more traffic never rules a win out."""

MIN_HOLDOUT_BLOCKS = 5
"""Blocks that a retrained model is compared on: fewer have no spread to speak of, so there is no answer."""

EXTENSION = 2.0
"""How often the planned time or evidence may go by before a test ends without an answer."""

MOST_LEVEL = 0.49
"""The one-sided level of a test must be below it, as `evaluator.stats.sequential_test.Side` demands."""


class EvidenceConfig(Section, frozen=True, kw_only=True):
    """How the challenger is judged. Declared before the data; a change starts with the next rollout."""

    metric: str | None = None
    """The primary metric: log_loss, brier or accuracy; mse or mae. Default: log_loss, mse."""
    form: Literal["paired", "split"] = "paired"
    """`paired` judges both arms on the same requests (needs shadow scoring); `split` compares the arms' own traffic."""
    alpha: Annotated[float, Meta(gt=0, lt=2 * MOST_LEVEL)] = 0.05
    """Two-sided: a win may be false with at most alpha / 2."""
    harm_alpha: Annotated[float, Meta(gt=0, lt=MOST_LEVEL)] = 0.05
    """One-sided level of a false rollback for harm."""
    min_samples: Positive = 10_000
    """Matured outcomes of the challenger (paired: pairs) at which the planned evidence is complete. With `block: auto`
    it is the least: all that the traffic brings within `duration` is planned with, and no more than within
    `max_duration`."""
    duration: Seconds = Seconds(21 * 86_400)
    max_duration: Seconds = Seconds(40 * 86_400)
    outcome_horizon: Seconds = Seconds(86_400)
    """A prediction matures this long after it was made; later outcomes are counted as late and not used."""
    block: BlockLength = BlockLength(0)
    """`auto`: evidence is judged at several scales from a 24th of `cycle` to the cycle, and the weakest decides. A
    duration: outcomes within one block are taken as correlated, and a win is judged on block sums alone."""
    cycle: Seconds = Seconds(86_400)
    """With `block: auto`: the time over which outcomes repeat or err together, by default a day."""
    harm_block: Seconds | None = None
    """Finer blocks for the harm side, so that harm is seen earlier; must divide `block`. Default: a quarter of it."""
    block_offset: Seconds = Seconds(0)
    """When blocks begin, after midnight UTC: best in a quiet hour, so that no burst is cut in two."""
    min_blocks: Annotated[int, Meta(ge=3)] = 20
    """With an explicit `block`: a win needs at least this many; fewer than 3 give no estimate of the variance."""
    min_harm_blocks: Annotated[int, Meta(ge=3)] = 5
    gross_margin: Annotated[float, Meta(gt=0)] = 0.2
    """Share of the champion's loss by which a challenger is grossly worse: shown on single pairs, it is out at once,
    and no stage is left before harm of that size could have been seen."""
    min_effect: Annotated[float, Meta(gt=0)] = 0.05
    """Share of the champion's loss that the test promises to find with 80 %. "No winner" is said where it would have
    been found, "underpowered" where not."""
    gross_alpha: Fraction = 0.005
    """Level of that watch over a rollout's life."""
    margin: Annotated[float, Meta(ge=0)] = 0.0
    """Within ± this effect (in units of the metric) the arms count as equivalent; 0 switches that verdict off."""
    inconclusive: Literal["archive", "extend"] = "archive"
    """What happens at the evaluation limit, `min_samples`, without a winner: the challenger is archived, or the test
    goes on to twice that. A comparison that has become invalid, or an arm without traffic, is archived at the latest
    when the minimum times of shadow and ramp (twice these) are over."""
    label_arrival_margin: Annotated[float, Meta(gt=0, le=1)] = 0.01
    """By how much the shares of requests with an outcome in time may differ between the arms. Shown to be more, the
    comparison is invalid; a significant difference that may be more holds a win. 1 switches the check off."""
    require_safe: bool = False
    """True: a win needs every guardrail shown to hold; else it is enough that none is shown to be broken."""
    aa_slice: Annotated[float, Meta(ge=0, le=0.5)] = 0.0
    """Share of the champion's requests that a hash labels as a phantom arm, answered by the champion like the others.
    The two are compared by the sequential test in one round after another, which shows how often it raises a false
    alarm on this traffic. No decision reads it. 0: off."""
    aa_round: Seconds | None = None
    """Length of a round, in whole blocks (`cycle`). Default: what a rollout's evidence is planned with, `duration`."""

    def __post_init__(self) -> None:
        check(self.cycle > 0, "`cycle` must be greater than 0")
        check(0 < self.duration <= self.max_duration, "`duration` must be greater than 0, and at most `max_duration`")
        check_decimals("aa_slice", self.aa_slice)
        if self.block.auto:
            check(self.harm_block is None, "`harm_block` is only valid with an explicit `block`")
            self._check_round()
            return
        check(self.finest_block > 0, "`harm_block` must be greater than 0")
        parts = self.block / self.finest_block
        check(parts >= 1 and abs(parts - round(parts)) < 1e-9, "`block` must be a whole multiple of `harm_block`")
        self._check_round()

    def _check_round(self) -> None:
        """A round that no side could cross, or that cuts a block in two, would publish a rate that means nothing."""
        if self.aa_slice:
            blocks, least = self.aa_length / self.longest_block, MIN_CYCLES if self.block.auto else self.min_blocks
            name = "cycle" if self.block.auto else "block"
            check(
                blocks >= least - 1e-9 and abs(blocks - round(blocks)) < 1e-9,
                f"`aa_round` must be a whole number of times `{name}`, {least} or more: a win needs so many",
            )

    @property
    def aa_length(self) -> float:
        """Seconds of a round of the continuous A/A slice."""
        if self.aa_round is not None:
            return float(self.aa_round)
        blocks = floor(self.duration / self.cycle + 1e-9) if self.block.auto else ceil(ROOM * self.min_blocks)
        return blocks * self.longest_block

    @property
    def aa_blocks(self) -> int:
        """The finest blocks of a round."""
        return round(self.aa_length / self.finest_block)

    def aa_number(self, at: float) -> int:
        """The round that a time falls into, counted from 1970 by the blocks of the evidence."""
        return floor((at - self.block_offset) / self.finest_block) // self.aa_blocks

    @property
    def longest_block(self) -> float:
        """Seconds of the blocks that a win is judged on, of several lengths the longest."""
        return float(self.cycle if self.block.auto else self.block)

    @property
    def first_look(self) -> float:
        """Seconds from the first request that tells of the challenger to the first look by which gross harm can be
        excluded: with `block: auto` the evidence is planned with the traffic of a whole cycle."""
        blocks = float(self.cycle) if self.block.auto else self.min_harm_blocks * self.finest_block
        return blocks + float(self.outcome_horizon)

    @property
    def earliest_win(self) -> float:
        """Seconds from a rollout's start to the first look that may show a win."""
        blocks = MIN_CYCLES if self.block.auto else self.min_blocks
        return blocks * self.longest_block + float(self.outcome_horizon)

    @property
    def finest_block(self) -> float:
        """Seconds of the blocks that sums are kept for."""
        if self.block.auto:
            return float(self.cycle) / CYCLE_PARTS
        return float(self.block) / 4 if self.harm_block is None else float(self.harm_block)


RATES = ("fallback_rate", "error_rate", "coverage", "latency")
"""Guardrails that need no outcome."""


class GuardrailConfig(Section, frozen=True, kw_only=True):
    """A guardrail: a metric that the challenger must not worsen by more than a margin, or it is rolled back."""

    metric: str
    """Another loss of the task, `recall`, fallback_rate, error_rate, coverage or latency."""
    margin: NonNegative
    """In units of the metric: of the loss, a share of requests, or (latency) how much more of the challenger's requests
    than of the champion's may be slower than the champion's own quantile."""
    alpha: Annotated[float, Meta(gt=0, lt=MOST_LEVEL)] = 0.05
    """One-sided level of a false alarm, over the rollout's whole life."""
    label: Label | None = None
    """The class, for `recall`."""
    quantile: Annotated[float, Meta(ge=0.5, lt=1)] | None = None
    """For `latency`; 0.99 if not given."""

    def __post_init__(self) -> None:
        recall = self.metric == "recall"
        check(recall or self.label is None, "`label` is only valid with `metric: recall`")
        check(not recall or self.label is not None, "`metric: recall` needs a `label`: the class that it is of")
        check(self.quantile is None or self.metric == "latency", "`quantile` is only valid with `metric: latency`")

    @property
    def name(self) -> str:
        if self.metric == "recall":
            return f"recall of {self.label}"
        return f"latency p{100 * (self.quantile or 0.99):g}" if self.metric == "latency" else self.metric
