"""Job directory: the files through which the retrainer and a job's process exchange specification, progress and answer.

Every file is replaced in one step, so none is ever read half; the lock lets one process at a time work on a job.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gauntlet import files
from gauntlet.config import Config
from gauntlet.config.retrain import RecipeConfig
from gauntlet.errors import DamagedFile
from retrainer.dataset import Ends

_S = TypeVar("_S", bound=msgspec.Struct)

_REMEDY = "the job is given up; the next request starts another"


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """Specification of a job. `now` is the event time of its request; `ends` fixes the data it reads."""

    job: str
    champion: str
    now: float
    ends: Ends
    config: Config
    recipe: RecipeConfig = RecipeConfig(name="default")

    @property
    def window(self) -> float:
        """Seconds before `matured` that the rows begin at; infinite for all there are."""
        window = self.config.retrain.window if self.recipe.window is None else self.recipe.window
        return float(window) or float("inf")

    @property
    def matured(self) -> float:
        """The time of the newest rows to learn from: younger ones have their outcome only if it came early."""
        return self.now - self.config.evidence.outcome_horizon


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a job: `accepted` with the registered `version`, or not, and why; or `error` when it failed.

    `metrics` has both models on the same held-out rows and the gate's own numbers; `split` the rows and their times.
    `alert` names one of `retrainer.alerts` that the result gives rise to, "" for what its status alone says.
    """

    accepted: bool = False
    reason: str = ""
    version: str | None = None
    metrics: dict[str, dict[str, float]] = {}
    split: dict[str, float] = {}
    training_seconds: float = 0.0
    error: str | None = None
    alert: str = ""


class _Step(msgspec.Struct, frozen=True):
    step: str


class JobFolder:
    """`<root>/<job>/{spec,step,judged,answer}.json`, `output.log` and `lock`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.output = path / "output.log"

    @property
    def spec_path(self) -> Path:
        return self.path / "spec.json"

    def prepare(self, spec: Spec) -> None:
        """Write the specification; that of an earlier start of the same job stays, so that it reads the same data."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.spec_path.exists():
            self._write("spec.json", spec)

    def spec(self) -> Spec:
        """Raises `DamagedFile`; so does what else is read."""
        with files.reading(self.spec_path, _REMEDY):
            return msgspec.json.decode(self.spec_path.read_bytes(), type=Spec, dec_hook=_decode)

    def report(self, step: str) -> None:
        self._write("step.json", _Step(step))

    def step(self) -> str:
        """What the job does just now; "" where that is not known."""
        with contextlib.suppress(DamagedFile):
            found = self._read("step.json", _Step)
            return found.step if found else ""
        return ""

    def judge(self, answer: Answer) -> None:
        """Keep the holdout's answer before anything is registered: a restarted job then finds the version again."""
        self._write("judged.json", answer)

    def judged(self) -> Answer | None:
        return self._read("judged.json", Answer)

    def finish(self, answer: Answer) -> None:
        self._write("answer.json", answer)

    def answer(self) -> Answer | None:
        """None while there is none: the job runs, or its process has died without one."""
        return self._read("answer.json", Answer)

    def output_tail(self) -> str:
        """The last 600 characters that the job printed."""
        try:
            return self.output.read_text(encoding="utf-8", errors="replace")[-600:].strip()
        except OSError:
            return ""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other process works on this job. The lock goes with its process, however that ends."""
        lock = files.lock(self.path / "lock", "process", seconds=files.FOREVER)
        try:
            yield
        finally:
            lock.release()

    def _read(self, name: str, kind: type[_S]) -> _S | None:
        path = self.path / name
        try:
            with files.reading(path, _REMEDY):
                return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None

    def _write(self, name: str, content: msgspec.Struct) -> None:
        # The only type that needs a hook is a duration.
        files.atomic_write(self.path / name, msgspec.json.encode(content, enc_hook=float))


def _decode(kind: type, value: Any) -> Any:
    return kind(value)
