"""Job directory: the files through which the retrainer and a job's process exchange specification, progress and answer.

Every file is replaced in one step, so none is ever read half; the lock lets one process at a time work on a job.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from gauntlet import files
from gauntlet.config import Config
from gauntlet.config.retrain import RecipeConfig
from gauntlet.errors import DamagedFile, InUse
from retrainer.jobs.dataset import Ends
from retrainer.jobs.job_output import OWNER_ONLY
from retrainer.jobs.redaction import redacted

_S = TypeVar("_S", bound=msgspec.Struct)

WITHDRAWN = 2
"""Exit code of a job that the retrainer has given up."""

_BEAT_SECONDS = 1.0
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

    @property
    def begin(self) -> float:
        """The time of the oldest rows to learn from."""
        return max(self.matured - self.window, 0.0)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a job: `accepted` with the registered `version`, or not, and why; or `error` when it failed.

    `metrics` has both models on the same held-out rows and the gate's own numbers; `split` the rows and their times.
    `warnings`: what is odd about the training. `alert` names one of `retrainer.alerts` that the result gives rise to,
    "" for what its status alone says.
    """

    accepted: bool = False
    reason: str = ""
    version: str | None = None
    metrics: dict[str, dict[str, float]] = {}
    split: dict[str, float] = {}
    training_seconds: float = 0.0
    warnings: list[str] = []
    error: str | None = None
    alert: str = ""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What a job does just now. `started` is the machine's time; `done` of the `planned` steps are over, and `share` of
    all is done."""

    step: str
    started: float = 0.0
    done: int = 0
    planned: int = 0
    share: float | None = None


class JobFolder:
    """`<root>/<job>/{spec,step,judged,answer}.json`, `output.log`, `heartbeat`, `lock` and, of a job that was given up
    while it ran elsewhere, `withdrawn`. What has content is readable by its owner only: the specification has the
    addresses of the log and the state, perhaps with passwords."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.output = path / "output.log"

    @property
    def spec_path(self) -> Path:
        return self.path / "spec.json"

    def prepare(self, spec: Spec) -> None:
        """Write the specification; that of an earlier start of the same job stays, so that it reads the same data."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._withdrawn.unlink(missing_ok=True)
        if not self.spec_path.exists():
            self._write("spec.json", spec)

    def spec(self) -> Spec:
        """Raises `DamagedFile`; so does what else is read."""
        with files.reading(self.spec_path, _REMEDY):
            return msgspec.json.decode(self.spec_path.read_bytes(), type=Spec, dec_hook=_decode)

    def report(self, step: str, done: int, planned: int, share: float = 0.0) -> None:
        """Say what the job does now, after `done` of the `planned` steps and `share` of the present one; the same step
        said again keeps its start."""
        before = self.step()
        step = redacted(step)
        started = before.started if before is not None and before.step == step else time.time()
        whole = (done + share) / planned
        self._write("step.json", Step(step=step, started=started, done=done, planned=planned, share=whole))

    def step(self) -> Step | None:
        """What the job does just now; None where that is not known."""
        with contextlib.suppress(DamagedFile):
            return self._read("step.json", Step)
        return None

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Let the folder show that this process is alive and runs Python: `heartbeat` is touched every second. A job
        that is withdrawn ends its process."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.is_set():
                if self.withdrawn:
                    os._exit(WITHDRAWN)  # whatever its trainer is at
                with contextlib.suppress(OSError):  # on a full disk the job itself will say so
                    (self.path / "heartbeat").touch()
                ended.wait(_BEAT_SECONDS)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @property
    def withdrawn(self) -> bool:
        """Whether the retrainer has given the job up."""
        return self._withdrawn.exists()

    def withdraw(self) -> None:
        """Let the job end by itself, wherever it runs, within a beat or two."""
        with contextlib.suppress(OSError):  # on a full disk it goes on to its end, and nobody takes up its answer
            self._withdrawn.touch()

    @property
    def _withdrawn(self) -> Path:
        return self.path / "withdrawn"

    def heartbeat(self) -> float | None:
        """The machine's time of the last beat."""
        try:
            return (self.path / "heartbeat").stat().st_mtime
        except OSError:
            return None

    def judge(self, answer: Answer) -> None:
        """Keep the holdout's answer before anything is registered: a restarted job then finds the version again."""
        self._write("judged.json", _shown(answer))

    def judged(self) -> Answer | None:
        return self._read("judged.json", Answer)

    def finish(self, answer: Answer) -> None:
        """Keep the answer, its texts without secrets: a user's trainer may raise with an address and its password."""
        self._write("answer.json", _shown(answer))

    def answer(self) -> Answer | None:
        """None while there is none: the job runs, or its process has died without one."""
        return self._read("answer.json", Answer)

    def log(self, most: int) -> str:
        """The last `most` characters that the job printed, without secrets."""
        try:
            with self.output.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 4 * most))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return redacted(text)[-most:]

    def output_tail(self) -> str:
        """The last 600 characters that the job printed."""
        return self.log(600).strip()

    def taken(self, seconds: float) -> bool:
        """Whether another process works on this job, and still does after so many seconds."""
        try:
            files.lock(self.path / "lock", "process", seconds=seconds).release()
        except InUse:
            return True
        return False

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
        files.atomic_write(self.path / name, msgspec.json.encode(content, enc_hook=float), mode=OWNER_ONLY)


def _shown(answer: Answer) -> Answer:
    """An answer as everybody may see it."""
    error = None if answer.error is None else redacted(answer.error)
    warnings = [redacted(each) for each in answer.warnings]
    return msgspec.structs.replace(answer, reason=redacted(answer.reason), warnings=warnings, error=error)


def _decode(kind: type, value: Any) -> Any:
    return kind(value)
