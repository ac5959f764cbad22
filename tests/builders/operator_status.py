"""Control records, looks and the status document of a shop's experiment, as an operator meets them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from gauntlet import rollout, transitions
from gauntlet.config import RetrainConfig
from gauntlet.config.load import parse
from gauntlet.events import ArmSummary, Evaluation, Job
from gauntlet.rollout import Command, Control
from gauntlet.status import EvaluatorProgress, Problem, RetrainerProgress
from gauntlet.status_document import Document, Reports, Serving, document
from gauntlet.types import Rule, VerdictCause

START = datetime(2026, 11, 28, 22, 0, tzinfo=UTC).timestamp()
HOUR, DAY = 3600.0, 86_400.0
CONFIG = parse(
    """
experiment: shop
task: classification
champion: {model: m.skops}
slots: 2
ramp:
  - {share: 0.01, min_time: 2d}
  - {share: 0.05, min_time: 2d, approval: true}
  - {share: 0.10, min_time: 3d}
"""
)
FRESH = rollout.begin("shop", "v0001", START)


def order(record: Control, name: str, hours: float, actor: str = "ann", reason: str = "try it", **more: Any) -> Control:
    """`record` after a command, some hours after the start."""
    if name == "challenge":
        shadow, stages = CONFIG.ladder(more.get("rule", Rule.PROVE))
        more = {"shadow": shadow, "stages": stages, "most": 6, **more}
    if name == "promote":
        more = {"bake_seconds": 14 * DAY, **more}
    command = Command(name=name, actor=actor, reason=reason, slots=2, **more)
    return transitions.apply(record, command, START + hours * HOUR)


def look(number: int, challenger: str, hours: float, cause: VerdictCause, result: str, **more: Any) -> Evaluation:
    arms = {"challenger": ArmSummary(model=challenger, exposures=900, outcomes=800, metrics={})}
    known: dict[str, Any] = {"effect": 0.0123, "lower": -0.003, "upper": 0.0276, "gross_harm_excluded": True, **more}
    return Evaluation(
        id=f"shop-r000{number}/1",
        at=START + hours * HOUR,
        experiment="shop",
        rollout=f"shop-r000{number}",
        champion="v0001",
        challenger=challenger,
        form="paired",
        metric="log_loss",
        result=result,
        cause=cause,
        pairs=12_345,
        blocks=24,
        information_fraction=0.45,
        arms=arms,
        **{"reasons": ["the sentence of the cause", "what is missing", "how it was computed"], **known},
    )


def found(
    record: Control,
    hours: float,
    *looks: Evaluation,
    behind: bool = False,
    problems: tuple[Problem, ...] = (),
    jobs: tuple[Job, ...] = (),
    retrain: RetrainConfig | None = None,
    **evaluator: Any,
) -> Document:
    """The document, as it comes over the wire."""
    progress = EvaluatorProgress(evaluations={one.rollout: one for one in looks}, **evaluator)
    running = next((job for job in jobs if job.status == "running"), None)
    made = document(
        msgspec.structs.replace(CONFIG, retrain=retrain or CONFIG.retrain),
        7,
        record,
        Serving(version=6 if behind else 7, champion="v0001", share=record.share),
        Reports(evaluator=progress, retrainer=RetrainerProgress(jobs=list(jobs), running=running)),
        problems,
        {},
        START + hours * HOUR,
    )
    return msgspec.json.decode(msgspec.json.encode(made), type=Document)


ONE = order(FRESH, "challenge", 1, version="v0002")
ON_RAMP = order(ONE, "advance", 50, "retrainer", "shadow has passed its gate")
TWO = order(order(ON_RAMP, "challenge", 51, version="v0003", rule=Rule.REFRESH), "advance", 99, rollout="shop-r0001")
AT_LAST = order(order(ON_RAMP, "ramp", 100, stage=2), "approve", 100)
PROMOTED = order(AT_LAST, "promote", 200, "retrainer", "the challenger is better and has passed the whole ramp")
