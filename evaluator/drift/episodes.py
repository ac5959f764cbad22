"""Drift episodes over the looks of a stream: one opens, may escalate and de-escalate, and closes, with one event each.

Deterministic: the same looks in the same order give the same events with the same ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from evaluator.drift.settings import DriftSettings
from evaluator.drift.severity import NO_DRIFT, Action, Judgement, RootCause
from evaluator.drift.signals import PERFORMANCE_KINDS, Key, LookResult, Signal
from evaluator.drift.state import Stateful, from_builtins, to_builtins
from gauntlet.types import Severity

EventKind = Literal["open", "escalate", "deescalate", "close"]


@dataclass(frozen=True, slots=True)
class DriftEvent:
    """The opening, escalation, de-escalation or close of an episode.

    `rows` is the number of rows (or outcomes, if more) seen, `at` the event time of the last of them. `features` are
    the top five, `signals` all that are raised. A close carries the episode's worst severity and its features then.
    """

    id: str
    episode: str
    event: EventKind
    severity: str
    confidence: float
    root_cause: RootCause
    features: tuple[Signal, ...]
    signals: tuple[Signal, ...]
    action: Action
    rows: int
    at: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class _Track:
    """A signal over the looks of its stream: consecutive looks against its present state, and its last numbers."""

    stream: str
    on: bool
    streak: int
    signal: Signal


@dataclass(slots=True)
class _State:
    """The open episode, if any: severities announced and worst, the signals at the worst, and the rows since which the
    severity is below the announced one; rows and severity of the last close; number and last time of the events."""

    open: str | None = None
    announced: Severity = Severity.NONE
    worst: Severity = Severity.NONE
    at_worst: tuple[Signal, ...] = ()
    below_since: int | None = None
    closed_at: int | None = None
    closed: Severity = Severity.NONE
    events: int = 0
    last_at: float | None = None


class Episodes(Stateful):
    """Debounces signals and combines judgements into episodes.

    A signal is raised or cleared by `confirm` consecutive looks (one if the evidence is certain, or the mode is
    simple), and holds above `hysteresis` of its threshold. After a close, the same or a lower severity opens after
    `cooldown_rows`, or at once if its evidence is certain. Within an episode a severity above the announced one is an
    event at once, and one below it when it has stayed below: for `cooldown_rows` where the loss is over, as after a
    renewed model, so that a second loss is told although the inputs stay where they moved; else for `renew_rows`. A
    second break on top of a loss that stands is an escalation too, whatever the severity (`tell_again`).
    """

    def __init__(self, key: str, settings: DriftSettings) -> None:
        self._key = key
        self._settings = settings
        self._confirm = 1 if settings.simple else settings.confirm
        self._tracks: dict[Key, _Track] = {}
        self._state = _State()
        self.judgement = NO_DRIFT

    def raised(self, stream: str | None = None) -> frozenset[Key]:
        """Keys of the signals now raised, on one stream of looks or on all."""
        return frozenset(key for key, track in self._tracks.items() if track.on and stream in (None, track.stream))

    def update(
        self, stream: str, look: LookResult, judge: Callable[[Iterable[Signal]], Judgement], *, rows: int, at: float
    ) -> list[DriftEvent]:
        """Take in one look at `stream`; `judge` judges the raised signals. Returns new events, mostly none."""
        state = self._state
        self._track(stream, look)
        self.judgement = judge(self.signals)
        severity = self.judgement.severity
        if state.open is None:
            return self._maybe_open(severity, rows, at, certain=bool(look.certain))
        raised = self.signals
        if severity > state.worst or (severity == state.worst and len(raised) >= len(state.at_worst)):
            state.worst, state.at_worst = severity, raised
        if severity is Severity.NONE:
            worst = replace(judge(state.at_worst), action="none")
            event = self._event("close", state.worst, rows, at, worst)
            state.at_worst = ()
            state.open, state.closed_at, state.closed = None, rows, state.announced
            state.announced, state.worst, state.below_since = Severity.NONE, Severity.NONE, None
            return [event]
        if severity > state.announced:
            state.announced, state.below_since = severity, None
            return [self._event("escalate", severity, rows, at, self.judgement)]
        if severity == state.announced:
            state.below_since = None
        elif state.below_since is None:
            state.below_since = rows
        elif rows - state.below_since >= self._quiet_rows(severity):
            state.announced, state.below_since = severity, None
            return [self._event("deescalate", severity, rows, at, self.judgement)]
        return []

    def tell_again(self, *, rows: int, at: float) -> list[DriftEvent]:
        """The escalation of the open episode by a second break of the concept."""
        if self._state.open is None:
            return []
        self._state.announced, self._state.below_since = max(self._state.announced, self.judgement.severity), None
        return [self._event("escalate", self._state.announced, rows, at, self.judgement)]

    def _quiet_rows(self, severity: Severity) -> int:
        over = self._state.announced >= Severity.HIGH > severity
        return self._settings.cooldown_rows if over else self._settings.renew_rows

    def _track(self, stream: str, look: LookResult) -> None:
        for key, signal in look.raised.items():
            track = self._tracks.get(key)
            if track is None:
                track = self._tracks[key] = _Track(stream, False, 0, signal)
            track.signal = signal
        for key, track in list(self._tracks.items()):
            if track.stream != stream:
                continue
            wanted = key in look.held if track.on else key in look.raised
            track.streak = track.streak + 1 if wanted != track.on else 0
            if track.streak >= (1 if key in look.certain else self._confirm):
                track.on, track.streak = not track.on, 0
            if not track.on and not wanted:
                del self._tracks[key]

    @property
    def has_loss(self) -> bool:
        """Whether a loss that was seen on outcomes is raised."""
        return any(track.on and key[0] in PERFORMANCE_KINDS for key, track in self._tracks.items())

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The signals now raised."""
        return tuple(self._tracks[key].signal for key in sorted(self._tracks) if self._tracks[key].on)

    def _maybe_open(self, severity: Severity, rows: int, at: float, *, certain: bool) -> list[DriftEvent]:
        if severity is Severity.NONE:
            return []
        cooling = self._state.closed_at is not None and rows - self._state.closed_at < self._settings.cooldown_rows
        if cooling and severity <= self._state.closed and not certain:
            return []
        self._state.open = _digest(self._key, "episode", str(self._state.events))
        self._state.announced = self._state.worst = severity
        self._state.at_worst = self.signals
        return [self._event("open", severity, rows, at, self.judgement)]

    def _event(self, kind: EventKind, severity: Severity, rows: int, at: float, judged: Judgement) -> DriftEvent:
        assert self._state.open is not None
        self._state.events += 1
        # Outcomes mature after the rows of their time: event times must not go back.
        self._state.last_at = at = at if self._state.last_at is None else max(at, self._state.last_at)
        return DriftEvent(
            id=_digest(self._key, kind, str(self._state.events)),
            episode=self._state.open,
            event=kind,
            severity=severity.value,
            confidence=judged.confidence,
            root_cause=judged.root_cause,
            features=judged.features,
            signals=self.signals,
            action=judged.action,
            rows=rows,
            at=at,
        )

    def snapshot(self) -> dict[str, Any]:
        return {"tracks": to_builtins(sorted(self._tracks.items())), "state": to_builtins(self._state)}

    def restore(self, raw: Mapping[str, Any]) -> None:
        """Replace all but the `judgement` by a `snapshot`."""
        self._tracks = dict(from_builtins(raw["tracks"], list[tuple[Key, _Track]]))
        self._state = from_builtins(raw["state"], _State)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:24]
