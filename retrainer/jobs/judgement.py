"""Champion and new model on a job's held-out rows: asked, timed, and judged by the holdout's gate."""

from __future__ import annotations

import time

import numpy as np

from gauntlet.config import Config
from gauntlet.holdout.statistics import Floats
from gauntlet.latency import BATCH, Latency, fast_enough, timed
from gauntlet.registry.artifact import Predictor
from gauntlet.types import Rule
from retrainer.jobs import holdout_gate, training
from retrainer.jobs.dataset import JobRows
from retrainer.jobs.job_dir import Answer

_NEGLIGIBLE_SECONDS = 0.001
"""For a batch: a request costs more by itself, and two equal models differ by parts of it, as they lie in memory."""


def judge_holdout(
    config: Config, champion: Predictor, challenger: Predictor, holdout: JobRows
) -> tuple[Answer, Floats]:
    """Accepted where the gate accepts it and, under `prove`, it is fast enough, with both models' figures; and the new
    model's outputs. A successor of the same design is only warned of: a forest or a neighbours' model of more rows is
    slower by itself, and to refuse it would be to refuse the newer data.

    Raises `TrainingError` where a model has no usable answers.
    """
    compared, outputs = _compare(config, champion, challenger, holdout)
    latency = _timed(champion, challenger, holdout, config.retrain.max_latency_increase or 0.0)
    slow = _slower(latency, config.retrain.max_latency_increase)
    refused = slow if config.retrain.rule is Rule.PROVE else []
    times = {"champion_ms": 1e3 * latency.baseline, "challenger_ms": 1e3 * latency.candidate, "ratio": latency.ratio}
    answer = Answer(
        accepted=compared.accepted and not refused,
        reason="; ".join([*compared.reasons, *refused]),
        warnings=[] if refused else slow,
        metrics={
            "champion": compared.champion,
            "challenger": compared.challenger,
            "holdout": _holdout(compared),
            "latency": times,
        },
    )
    return answer, outputs


def _slower(latency: Latency, most: float | None) -> list[str]:
    """What to say of a model that takes longer than it may; nothing of others."""
    if most is None or latency.candidate - latency.baseline < _NEGLIGIBLE_SECONDS:
        return []
    quick, reason = fast_enough(latency, most)
    return [] if quick else [f"{reason} (retrain.max_latency_increase)"]


def _compare(
    config: Config, champion: Predictor, challenger: Predictor, holdout: JobRows
) -> tuple[holdout_gate.GateAnswer, Floats]:
    """Both models on the rows that the champion can answer, and the challenger's outputs on all."""
    settings, schema = config.retrain, champion.schema
    theirs, ours = champion.predict(holdout.features), challenger.predict(holdout.features)
    answered = champion.valid(theirs)
    broken = int((answered & ~challenger.valid(ours)).sum())
    if broken:
        raise training.TrainingError(f"the new model gives no usable answer on {broken:,} of {len(holdout):,} rows")
    truth = training.truths(schema, holdout)
    if not answered.any():
        raise training.TrainingError(
            f"the champion {champion.version} gives no usable answer on any of {len(holdout):,} held-out rows"
        )
    truth, times = truth[answered], np.array(holdout.times)[answered]
    found = holdout_gate.compare(
        config.metric,
        theirs[answered],
        ours[answered],
        truth,
        times,
        task=schema.task,
        block=config.evidence.longest_block,
        offset=config.evidence.block_offset,
        rule=settings.rule,
        margin=config.refresh.margin,
        min_improvement=settings.min_improvement,
        confidence=settings.confidence,
        repetitions=settings.bootstrap,
        seed=settings.seed,
        weights=np.array(holdout.weights)[answered] if holdout.weights else None,
    )
    return found, ours


def _timed(champion: Predictor, challenger: Predictor, holdout: JobRows, most: float) -> Latency:
    """Both models on the same batch."""
    batch = holdout.features[:BATCH]
    calls = (lambda: champion.predict(batch)), (lambda: challenger.predict(batch))
    return timed(*calls, len(batch), time.perf_counter, most)


def _holdout(compared: holdout_gate.GateAnswer) -> dict[str, float]:
    numbers = {
        "improvement": compared.improvement,
        "confidence": compared.confidence,
        "rows": float(compared.rows),
        "blocks": float(compared.blocks),
    }
    return numbers if compared.lower is None else {**numbers, "lower": compared.lower}
