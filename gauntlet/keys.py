"""Names of topics and state keys, in one place."""

from __future__ import annotations

# Topics of the event log, by the prediction's id; all have the same number of partitions, so that a prediction and its
# outcome land side by side. Shadow scores share the predictions' topic: a partition's time passes a request's horizon
# only after the scores that were recorded in between. Their records hold many and lie where the first one's would.
PREDICTIONS = "predictions"
OUTCOMES = "outcomes"
EVALUATIONS = "evaluations"
DRIFT = "drift"
JOBS = "jobs"
DEAD_LETTERS = "dead-letters"
TOPICS = (PREDICTIONS, OUTCOMES, EVALUATIONS, DRIFT, JOBS, DEAD_LETTERS)


def control(experiment: str) -> str:
    """State key of the versioned control record: the only thing that sets an allocation."""
    return f"control/{experiment}"


def evaluator_progress(experiment: str) -> str:
    """State key of the evaluator's own report: offsets, watermark, latest evaluation."""
    return f"evaluator/{experiment}"


def evaluator_state(experiment: str) -> str:
    """State key of the evaluator's accumulators and offsets, compare-and-set at each commit (the fence)."""
    return f"evaluator-state/{experiment}"


def retrainer_progress(experiment: str) -> str:
    """State key of the retrainer's own report: events handled, running job, recent jobs."""
    return f"retrainer/{experiment}"


def router_progress(experiment: str, replica: str) -> str:
    """State key under which one router replica acknowledges the control version that it serves."""
    return f"router/{experiment}/{replica}"
