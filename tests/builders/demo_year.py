"""A small year as the demo's services would have recorded it: real log, control record and registry, no services."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from gauntlet import adapters, control, events, keys, rollout
from gauntlet.cli.demo import flights as demo
from gauntlet.cli.demo.replay import Sent
from gauntlet.config import Config
from gauntlet.config import load as configs
from gauntlet.events import Contender
from gauntlet.log import Record
from gauntlet.log.local import LocalLogWriter
from gauntlet.promotion_ledger import Entry, Ledger, Lineage
from gauntlet.registry import model_schema
from gauntlet.registry.artifact import Feature
from gauntlet.rollout import Command, Control
from gauntlet.state.local import LocalState
from gauntlet.status import EvaluatorProgress
from gauntlet.types import CHALLENGER, CHAMPION, Task

NAME = "flights"
START = demo.YEAR_START
DAY = demo.DAY

_CONFIG = """
experiment: flights
task: classification
data: {data}
clock: events
champion: {{model: january.skops}}
evidence: {{outcome_horizon: 1d}}
ramp:
  - {{share: 0.1, min_time: 2d}}
  - {{share: 0.3, min_time: 2d}}
"""


@dataclass
class Run:
    """What was recorded, open to be tampered with before it is written."""

    config: Config
    flights: demo.Flights
    sent: Sent
    predictions: list[events.Prediction] = field(default_factory=list)
    shadows: list[events.Shadow] = field(default_factory=list)
    outcomes: list[events.Outcome] = field(default_factory=list)
    evaluations: list[events.Evaluation] = field(default_factory=list)
    drift: list[events.Drift] = field(default_factory=list)
    jobs: list[events.Job] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    async def write(self) -> None:
        """Put it all on the log, and the evaluator's counts into the state store."""
        data = Path(self.config.data)
        await append(data, "router", [(keys.PREDICTIONS, e) for e in self.predictions])
        scored = [events.Shadows.of(self.shadows[i : i + 50]) for i in range(0, len(self.shadows), 50)]
        await append(data, "router", [(keys.PREDICTIONS, e) for e in scored])
        await append(data, "router", [(keys.OUTCOMES, e) for e in self.outcomes])
        await append(data, "evaluator", [(keys.EVALUATIONS, e) for e in self.evaluations])
        await append(data, "evaluator", [(keys.DRIFT, e) for e in self.drift])
        await append(data, "retrainer", [(keys.JOBS, e) for e in self.jobs])
        state = LocalState(data / "state.db")
        report = msgspec.json.encode(EvaluatorProgress(counts=self.counts, worth=WORTH))
        await state.put(keys.evaluator_progress(NAME), report, 0)
        await state.close()


WORTH = Ledger(
    entries=[
        Entry(
            promotion=f"{NAME}-r0001",
            champion="v0002",
            previous="v0001",
            number=1,
            since=1_360_000_000.0,
            until=1_362_000_000.0,
            pairs=870,
            gain=0.0312,
            alpha=0.05,
            lower=0.0101,
            lineage_lower=0.0101,
        )
    ],
    lineage=Lineage(base="v0001", champion="v0002", links=1, gain=0.0312, alpha=0.05, lower=0.0101, unknown=1),
)
"""What the evaluator tells of the year's one promotion."""


async def append(data: Path, writer: str, found: list[tuple[str, Any]]) -> None:
    """Put events on the log; each is a topic and an event."""
    log = LocalLogWriter(data / "log", writer, durable=False)
    await log.append([Record(topic, event.id, event.at, events.encode(event)) for topic, event in found])
    await log.close()


def flights(days: int, a_day: int, seed: int = 7) -> demo.Flights:
    """Flights spread evenly over each day; warm evenings are late. One in 29 never gets an outcome."""
    rng = np.random.default_rng(seed)
    n = days * a_day
    departure = START + 3600 + np.arange(n) * ((DAY - 7200) // a_day) % (DAY - 7200) + np.arange(n) // a_day * DAY
    temp = 50 + 25 * np.sin(np.arange(n) / n * np.pi) + rng.normal(0, 8, n)
    p = 1 / (1 + np.exp(-(temp - 65) / 6))
    late = (rng.random(n) < p).astype(np.float64)
    arrival = departure + 8400.0
    gone = np.arange(n) % 29 == 28
    columns: dict[str, Any] = {name: rng.normal(size=n).round(3).tolist() for name in demo.NUMERIC}
    columns["temp"] = temp.round(2).tolist()
    columns |= {name: ["a", "b"] * (n // 2) + ["a"] * (n % 2) for name in demo.CATEGORICAL}
    return demo.Flights(
        columns=columns,
        departure=departure.astype(np.int64),
        arrival=np.where(gone, np.nan, arrival),
        late=np.where(gone, np.nan, late),
        month=np.minimum(12, 1 + (departure - START) // (30 * DAY)),
        key=[f"AA{i}" for i in range(n)],
    )


async def make(folder: Path, days: int = 90, a_day: int = 20) -> Run:
    """Two rollouts: v0002, retrained after drift, is promoted; v0003, handed in by a person, is thrown out."""
    config = configs.parse(_CONFIG.format(data=folder))
    year = flights(days, a_day)
    rows = year.rows()
    known = ~np.isnan(year.late)
    registry = adapters.registry(config)
    outputs: dict[str, Any] = {}
    # v0002 learns from the whole time, v0001 and v0003 from its first ninth.
    for name, upto in (("v0001", len(year) // 9), ("v0002", len(year)), ("v0003", len(year) // 9)):
        usable = np.flatnonzero(known[:upto])
        chosen = usable[:: max(1, len(usable) // 4000)]
        model = demo.train([rows[i] for i in chosen], year.late[chosen])
        features = [Feature(name=f, kind="text" if f in demo.CATEGORICAL else "number") for f in demo.FEATURES]
        schema = model_schema.schema_of(model, Task.CLASSIFICATION, features)
        assert registry.register(model, schema, created_at=0.0).version == name
        outputs[name] = np.concatenate([model.predict_proba(rows[i : i + 20_000]) for i in range(0, len(rows), 20_000)])
    n = len(year)
    with_outcome = int(known.sum())
    sent = Sent(
        flights=n,
        outcomes=with_outcome,
        never=n - with_outcome,
        answered=n,
        accepted=with_outcome,
        seconds=2.0,
        end=float(START + (days + 2) * DAY),
    )
    run = Run(config, year, sent)
    state = LocalState(folder / "state.db")
    await control.create(state, rollout.begin(NAME, "v0001", 0.0))
    rng = np.random.default_rng(11)
    commands = _commands(days)
    for day in range(days):
        now = float(START + day * DAY)
        for command in commands.get(day, []):
            await control.change(state, NAME, command, now)
        _, record = await control.read(state, NAME)
        assert record is not None
        _add_events(run, day, now, record, days)
        first = day * a_day
        for i in range(first, first + a_day):
            _add_prediction(run, i, record, outputs, rng)
    await state.close()
    run.outcomes = [
        events.Outcome(id=year.key[i], at=float(year.arrival[i]), experiment=NAME, value=int(year.late[i]))
        for i in range(n)
        if known[i]
    ]
    run.counts = {"predictions": n, "outcomes": with_outcome, "joined": with_outcome, "shadows": len(run.shadows)}
    return run


def _commands(days: int) -> dict[int, list[Command]]:
    """Which command is given on which day, for a run of `days`."""

    def on(share: float) -> int:
        return round(share * days)

    def step(name: str, actor: str, reason: str, **extra: Any) -> list[Command]:
        return [Command(name=name, actor=actor, reason=reason, **extra)]

    shadow = rollout.Stage(share=0.0, min_seconds=DAY)
    ramp = tuple(rollout.Stage(share=share, min_seconds=DAY) for share in (0.1, 0.3))
    challenge = {"shadow": shadow, "stages": ramp}
    return {
        on(0.24): step("challenge", "retrainer", "retrain_1: log loss 0.60 → 0.50", version="v0002", **challenge),
        on(0.30): step("advance", "retrainer", "stage -1 has passed its gate", evidence=f"{NAME}-r0001/{on(0.30)}"),
        on(0.34): step("advance", "retrainer", "stage 0 has passed its gate"),
        on(0.44): step(
            "promote",
            "retrainer",
            "the challenger is better & has passed the whole ramp",
            evidence=f"{NAME}-r0001/{on(0.44)}",
            bake_seconds=5.0 * DAY,
        ),
        on(0.56): step("confirm", "retrainer", "it has held what it showed"),
        on(0.62): step("challenge", "ann", "hand-made <challenger>", version="v0003", **challenge),
        on(0.69): step("advance", "retrainer", "stage -1 has passed its gate"),
        on(0.76): step("rollback", "breaker", "5 of 200 calls failed (ValueError)"),
    }


def _add_events(run: Run, day: int, now: float, record: Control, days: int) -> None:
    """The evaluations, drift and job events of this day."""
    if record.rollouts:
        (running,) = record.rollouts
        age = (now - running.started_at) / DAY + 1
        good = running.challenger == "v0002"
        effect, width = (0.03 if good else -0.05), 0.25 / age**0.5
        run.evaluations.append(
            events.Evaluation(
                id=f"{running.id}/{day}",
                at=now,
                experiment=NAME,
                rollout=running.id,
                champion=record.champion,
                challenger=running.challenger,
                form="paired",
                metric="log_loss",
                result="inconclusive",
                reasons=["collecting"],
                effect=effect,
                lower=effect - width,
                upper=effect + width,
                z=effect / width * 4,
                bound_win=3.0 + 4 / age,
                bound_harm=2.4 + 4 / age,
                information_fraction=age / days,
                blocks=int(age * 2),
                pairs=int(age * 20),
            )
        )
    steps = {
        round(0.15 * days): ("open", "MEDIUM", "one", "v0001"),
        round(0.22 * days): ("escalate", "HIGH", "one", "v0001"),
        round(0.80 * days): ("open", "LOW", "two", "v0002"),
        round(0.90 * days): ("close", "LOW", "two", "v0002"),
    }
    if day in steps:
        event, severity, episode, model = steps[day]
        signals = [
            events.DriftSignal(name=f, statistic=s, lower=s - 0.05, upper=s + 0.05)
            for f, s in (("temp", 0.1 + day / days), ("dewp", 0.2), ("visib", 0.11))
        ]
        run.drift.append(
            events.Drift(
                id=f"{episode}-{event}",
                at=now,
                experiment=NAME,
                episode=episode,
                event=event,
                severity=severity,
                confidence=0.9,
                root_cause="covariate",
                action="retrain_recent",
                model=model,
                rows=100,
                features=signals,
                signals=[f"ks temp {0.1 + day / days:.3g}, threshold 0.15"],
            )
        )
    for share, accepted, name in ((0.23, True, "retrain_1"), (0.95, False, "retrain_2")):
        if day == round(share * days):
            figures = {
                "champion": {"log_loss": 0.6},
                "challenger": {"log_loss": 0.5 if accepted else 0.61},
                "holdout": {"improvement": 0.1 if accepted else -0.01, "rows": 400.0},
            }
            for status in ("pending", "running", "completed"):
                done = status == "completed"
                run.jobs.append(
                    events.Job(
                        id=name,
                        at=now + 60.0 * done,
                        experiment=NAME,
                        status=status,
                        trigger="drift",
                        severity="HIGH",
                        reason="log loss improves" if accepted else "no improvement",
                        champion=record.champion,
                        version="v0002" if accepted and done else None,
                        accepted=accepted if done else None,
                        metrics=figures if done else {},
                        seconds=3.0,
                    )
                )


def _add_prediction(run: Run, i: int, record: Control, outputs: dict[str, Any], rng: np.random.Generator) -> None:
    """One flight's prediction under `record`, and its shadow score."""
    running = record.rollouts[0] if record.rollouts else None
    assigned = CHALLENGER if running is not None and rng.random() < record.share else CHAMPION
    broken = running is not None and running.challenger == "v0003" and i % 11 == 0
    served = CHAMPION if broken else assigned
    model = running.challenger if running is not None and served == CHALLENGER else record.champion
    at = float(run.flights.departure[i])
    run.predictions.append(
        events.Prediction(
            id=run.flights.key[i],
            at=at,
            experiment=NAME,
            unit=run.flights.key[i],
            bucket=0,
            assigned=assigned,
            served=served,
            allocation=record.allocation,
            champion=record.champion,
            contenders=[Contender(rollout=running.id, challenger=running.challenger, propensity=record.share)]
            if running
            else [],
            rollout=running.id if running and assigned == CHALLENGER else None,
            output=outputs[model][i].tolist(),
            features={"temp": run.flights.columns["temp"][i]},
            fallback="error" if broken and assigned == CHALLENGER else None,
        )
    )
    if running is not None and assigned == served:
        other = running.challenger if served == CHAMPION else record.champion
        run.shadows.append(
            events.Shadow(
                id=run.flights.key[i],
                at=at,
                experiment=NAME,
                arm=CHALLENGER if served == CHAMPION else CHAMPION,
                model=other,
                output=None if broken else outputs[other][i].tolist(),
                rollout=running.id,
                error="ValueError" if broken else None,
            )
        )
