"""How far a job is: the steps that it has planned, and the share of the whole that is done.

Steps count alike, however long they take; within one that knows its own share (a search) the whole grows with it.
"""

from __future__ import annotations

from typing import Literal, Protocol

from gauntlet.types import Rule
from retrainer.jobs.job_dir import JobFolder, Spec

Stage = Literal["collect", "search", "train", "compare", "refit", "register"]


class Reporter(Protocol):
    """How a job says in which planned step it is and what it does there, and how much of that step is done."""

    def __call__(self, stage: Stage, text: str, share: float = 0.0) -> None: ...


def planned(spec: Spec) -> list[Stage]:
    """The steps of a job whose model is accepted, in their order; one that is refused ends after `compare`."""
    search: list[Stage] = ["search"] if spec.recipe.search else []
    refit: list[Stage] = ["refit"] if spec.config.retrain.rule is Rule.REFRESH else []
    return ["collect", *search, "train", "compare", *refit, "register"]


class ProgressWriter:
    """Writes each report into the job's folder."""

    def __init__(self, folder: JobFolder, spec: Spec) -> None:
        self._folder = folder
        self._planned = planned(spec)

    def __call__(self, stage: Stage, text: str, share: float = 0.0) -> None:
        self._folder.report(text, self._planned.index(stage), len(self._planned), share)
