"""The events on the log: typed, versioned structs and their wire format (JSON, one struct an event).

Fields are only ever added, with defaults; a change of meaning raises SCHEMA_VERSION. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import msgspec

from gauntlet.types import CHALLENGER, Arm, Label, Rule, Scorer, VerdictCause

SCHEMA_VERSION = 1


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event carries: its id (also the message key), its time, its experiment and the schema's version."""

    id: str
    at: float
    experiment: str
    v: int = SCHEMA_VERSION


class Contender(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A challenger as it ran when a request was answered. `propensity`: the probability of it that was in force, 0 in
    shadow; `rule`: what it has to show."""

    rollout: str
    challenger: str
    propensity: float = 0.0
    rule: Rule = Rule.PROVE


class Phantom(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A champion's request in the continuous A/A slice: whether its unit was drawn for the phantom arm, at which
    propensity, in which round. The champion answers either way."""

    round: int
    propensity: float
    drawn: bool = False


class Holdout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request while a share of the units stays with the champion before (reverse holdout): since which promotion, at
    which propensity, and whether its unit was drawn. Then `previous` answered, or with a fallback the champion."""

    promotion: str
    previous: str
    propensity: float
    drawn: bool = False


class Prediction(Event, tag="prediction", frozen=True, kw_only=True, omit_defaults=True):
    """One answered request, with the assignment as it was when the unit met it.

    `assigned` is the arm of the hash, `served` the arm whose answer the caller got; they differ under fallback, and
    analysis goes by `assigned` (intention to treat). `contenders` are all running challengers, and `rollout` names the
    one that the unit was assigned to, None for the champion. `phantom` is the draw of the A/A slice, `holdout`
    that of the reverse holdout, where one runs; a unit that is held out belongs to no other comparison.
    `output` is the served answer: class probabilities in the experiment's order of classes, or one number for a
    regression.
    """

    unit: str
    bucket: int
    assigned: Arm
    served: Arm
    allocation: int
    champion: str
    output: list[float] | float | None
    features: dict[str, Any]
    contenders: list[Contender] = []
    rollout: str | None = None
    fallback: str | None = None
    forced: bool = False
    seconds: float = 0.0
    segments: dict[str, str] = {}
    phantom: Phantom | None = None
    holdout: Holdout | None = None

    @property
    def contender(self) -> Contender | None:
        """The challenger that the unit was assigned to."""
        return next((each for each in self.contenders if each.rollout == self.rollout), None)

    @property
    def held_out(self) -> bool:
        """Whether its unit stays with the champion before."""
        return self.holdout is not None and self.holdout.drawn

    @property
    def model(self) -> str:
        """The version that answered."""
        if self.holdout is not None and self.holdout.drawn and self.fallback is None:
            return self.holdout.previous
        contender = self.contender if self.served == CHALLENGER else None
        return contender.challenger if contender else self.champion


class Shadow(Event, frozen=True, kw_only=True, omit_defaults=True):
    """A model that did not serve, scored on the same request off the response path; `id` is the prediction's.
    `rollout`: a challenger's, or for the champion of before the one that took its place; None for the champion.

    `output` is None when the model failed; `error` then says how. The log has them in `Shadows`.
    """

    arm: Scorer
    model: str
    output: list[float] | float | None
    rollout: str | None = None
    error: str | None = None


class Score(msgspec.Struct, frozen=True, array_like=True):
    """What is a shadow score's own beside its model: id and time of the prediction, output, error."""

    id: str
    at: float
    output: list[float] | float | None
    error: str | None = None


class ModelScores(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The scores of one model in a record; the other fields as in `Shadow`."""

    arm: Scorer
    model: str
    scores: list[Score]
    rollout: str | None = None


class Shadows(Event, tag="shadows", frozen=True, kw_only=True, omit_defaults=True):
    """The shadow scores that came together, of all models: one record, where each alone would be most of the log.
    `id` and `at` are those of the first."""

    models: list[ModelScores]

    @classmethod
    def of(cls, shadows: Sequence[Shadow]) -> Self:
        """At least one, all of one experiment."""
        models: dict[tuple[Scorer, str, str | None], list[Score]] = {}
        for each in shadows:
            score = Score(each.id, each.at, each.output, each.error)
            models.setdefault((each.arm, each.model, each.rollout), []).append(score)
        return cls(
            id=shadows[0].id,
            at=shadows[0].at,
            experiment=shadows[0].experiment,
            models=[
                ModelScores(arm=arm, model=model, rollout=rollout, scores=scores)
                for (arm, model, rollout), scores in models.items()
            ],
        )

    def each(self) -> Iterator[Shadow]:
        """The scores, one by one."""
        for of in self.models:
            for score in of.scores:
                yield Shadow(
                    id=score.id,
                    at=score.at,
                    experiment=self.experiment,
                    arm=of.arm,
                    model=of.model,
                    output=score.output,
                    rollout=of.rollout,
                    error=score.error,
                )


class Outcome(Event, tag="outcome", frozen=True, kw_only=True, omit_defaults=True):
    """The truth for a prediction; `id` is the prediction's, `at` the time it became known."""

    value: Label
    reward: float | None = None


class ArmSummary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One arm's matured traffic in a comparison, in numbers a person can read (means of each metric). contradicted:
    requests assigned to it whose label another outcome contradicts."""

    model: str
    exposures: int
    outcomes: int
    metrics: dict[str, float]
    contradicted: int = 0


class GuardrailResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One guard at one look: `safe` (a breach is ruled out), `breached` (it is shown) or `open` (neither yet).

    `effect` and its limits are positive when the challenger is better, in the metric's units; `champion` and
    `challenger` are the arms' own figures.
    """

    name: str
    standing: str
    margin: float
    reason: str
    effect: float | None = None
    lower: float | None = None
    upper: float | None = None
    champion: float | None = None
    challenger: float | None = None


class SegmentResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The primary metric among the requests with one value of one label; `p_value` of harm, corrected for all values
    that are looked at."""

    name: str
    value: str
    champion: int
    challenger: int
    effect: float | None = None
    lower: float | None = None
    upper: float | None = None
    p_value: float | None = None
    harmed: bool = False


class DriftCondition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The drift episode that was open at a look, and what it did to the arms: the mean gain (minus the primary loss) of
    each before it began and since; the p value of a difference between the two changes; `alike`: nothing shows that the
    arms were met differently (None: too few blocks to tell)."""

    episode: str
    severity: str
    root_cause: str
    since: float
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    p_value: float | None = None
    alike: bool | None = None


class Evaluation(Event, tag="evaluation", frozen=True, kw_only=True, omit_defaults=True):
    """One look at one rollout's evidence: a pure function of the offsets it names and of the configuration.

    `at` is the watermark: the event time up to which every exposure has matured. `effect`, `lower` and `upper` are
    in units of the primary metric, positive when the challenger is better. None means: no answer yet, and `reasons`
    say why. `result` with its `cause` is the verdict, and decisions are made on these two; `subject` is the
    guardrail or segment that the cause is about, and the first of `reasons` is the cause as a sentence. `crossed`
    says better only where nothing speaks against a promotion; `holds` is what speaks against going on.
    `ramp_share`: the part of the ramp's traffic that Thompson sampling gives the challenger; None where that is off, or
    it is not on the ramp.
    `gross_harm_excluded`: harm of the gross margin's size would have shown by now and did not; no stage is left
    before. `eta_horizon` and `eta_decision` are in outcomes, the latter if the effect stays as it is.
    """

    rollout: str
    champion: str
    challenger: str
    form: str
    metric: str
    result: str
    reasons: list[str]
    cause: VerdictCause = VerdictCause.EVIDENCE_INCOMPLETE
    subject: str = ""
    crossed: str | None = None
    effect: float | None = None
    lower: float | None = None
    upper: float | None = None
    z: float | None = None
    bound_win: float | None = None
    bound_harm: float | None = None
    p_value: float | None = None
    information_fraction: float = 0.0
    blocks: int = 0
    pairs: int = 0
    widening: float | None = None
    skewness: float | None = None
    gross_harm_excluded: bool = False
    srm_p_value: float | None = None
    label_conflict_p_value: float | None = None
    arms: dict[str, ArmSummary] = {}
    offsets: dict[str, int] = {}
    guardrails: list[GuardrailResult] = []
    segments: list[SegmentResult] = []
    holds: list[str] = []
    moved_units: int = 0
    eta_horizon: int | None = None
    eta_decision: int | None = None
    standard_error: float | None = None
    ramp_share: float | None = None
    drift: DriftCondition | None = None


class Health(Event, tag="health", frozen=True, kw_only=True, omit_defaults=True):
    """The champion's own matured performance over one block, and over the watch window that the bake is judged on.

    After a promotion `previous` is the champion of before, scored in shadow on the same requests: when both fall, it is
    a shift for both, and going back would not help. `realised_gain` is by how much the champion's loss was below that
    of the one before on the same requests since its `promotion` (the rollout of that), with limits that hold at all
    times, each with 1 - `evidence.harm_alpha`; None where blocks are too few.
    """

    model: str
    outcomes: int
    metrics: dict[str, float]
    window_outcomes: int = 0
    window: dict[str, float] = {}
    previous: str | None = None
    previous_outcomes: int = 0
    previous_window: dict[str, float] = {}
    promotion: str | None = None
    realised_gain: float | None = None
    realised_lower: float | None = None
    realised_upper: float | None = None
    realised_pairs: int = 0
    offsets: dict[str, int] = {}


class DriftSignal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One feature's part in a drift event: its statistic, its certified interval and its p value. `kind`: what the
    statistic measures, as in `evaluator.drift.signals`; `name` is empty where it is of no single feature."""

    name: str
    statistic: float
    lower: float | None = None
    upper: float | None = None
    p_value: float | None = None
    kind: str = ""


class Drift(Event, tag="drift", frozen=True, kw_only=True, omit_defaults=True):
    """One step in a drift episode: `open`, `escalate`, `deescalate` or `close`, with its cause and what to do about it.

    `quality` is the score of the rows' quality where it is too low; `features` are the worst five, `raised` all signals
    of the step, which `signals` puts in words.
    """

    episode: str
    event: str
    severity: str
    confidence: float
    root_cause: str
    action: str
    model: str
    rows: int
    quality: float | None = None
    features: list[DriftSignal] = []
    signals: list[str] = []
    raised: list[DriftSignal] = []


class Job(Event, tag="job", frozen=True, kw_only=True, omit_defaults=True):
    """One change in the life of a retraining job: pending, running, completed, failed, aborted or cancelled."""

    status: str
    trigger: str
    severity: str
    reason: str
    champion: str
    recipe: str = ""
    step: str = ""
    version: str | None = None
    accepted: bool | None = None
    metrics: dict[str, dict[str, float]] = {}
    seconds: float = 0.0
    error: str | None = None


AnyEvent = Prediction | Shadows | Outcome | Evaluation | Health | Drift | Job

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)

encode = _encoder.encode
"""An event as the bytes that go on the log."""


def decode(data: bytes) -> AnyEvent:
    """The event in `data`. Raises `msgspec.MsgspecError` for bytes that are no event of a known type and shape."""
    return _decoder.decode(data)
