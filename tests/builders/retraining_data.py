"""A small recorded stream whose concept turns one day: predictions and outcomes on a real local log, a real champion.
Everything is seeded; the same arguments make the same stream."""

import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression, LogisticRegression

from gauntlet import adapters, control, events, keys
from gauntlet.config import Config
from gauntlet.config.load import parse
from gauntlet.events import Contender, Drift, Outcome, Prediction
from gauntlet.log import Record
from gauntlet.registry import artifact, model_schema
from gauntlet.rollout import begin

DAY = 86_400.0
START = 1_700_006_400.0  # a midnight (UTC), so that days and blocks agree
NAMES = ("x1", "x2", "x3")
CHAMPION = "v0001"


def configuration(folder: Path, task: str = "classification", **retrain: object) -> Config:
    """A configuration for the stream: 30 days of data a job, day blocks, everything on the local disk."""
    settings = {"rule": "prove", "window": "30d", "min_improvement": 0.001 if task == "regression" else 0.01, **retrain}
    lines = "\n".join(f"  {key}: {value}" for key, value in settings.items())
    return parse(
        f"experiment: turning\ntask: {task}\nchampion: {{model: unused.skops}}\ndata: {folder / 'data'}\n"
        f"clock: events\nfeatures: [{', '.join(NAMES)}]\nretrain:\n{lines}\n"
    )


def rows(days: int, a_day: int, turn: int | None, seed: int, task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, truths and times; from day `turn` on, what speaks for the outcome speaks against it."""
    rng = np.random.default_rng(seed)
    n = days * a_day
    x = rng.normal(size=(n, len(NAMES)))
    times = START + np.sort(rng.uniform(0, days * DAY, size=n))
    sign = np.where(times < START + (days if turn is None else turn) * DAY, 1.0, -1.0)
    day_noise = rng.normal(scale=0.3, size=days)[((times - START) // DAY).astype(int)]
    score = sign * (1.5 * x[:, 0] - x[:, 1]) + day_noise
    if task == "regression":
        return x, score + rng.normal(scale=0.5, size=n), times
    return x, (rng.random(n) < 1 / (1 + np.exp(-score))).astype(int), times


def champion_of(task: str) -> object:
    x, y, _ = rows(20, 100, None, 99, task)
    return (LinearRegression() if task == "regression" else LogisticRegression()).fit(x, y)


async def lay(
    config: Config,
    *,
    days: int = 40,
    a_day: int = 60,
    turn: int | None = 15,
    seed: int = 7,
    fault: str = "",
    ramp_from: int | None = None,
) -> float:
    """Write the stream to the log, register the champion, begin the experiment; return the stream's end.

    fault: what keeps a job from learning from the rows: "too few", "one class", "no truths" or "other columns".
    ramp_from: from this day on every fourth request was a challenger's, as likely as that.
    """
    x, y, times = rows(15 if fault == "too few" else days, a_day, turn, seed, str(config.task))
    names = ("y1", "y2", "y3") if fault == "other columns" else NAMES
    model = champion_of(str(config.task))
    schema = model_schema.schema_of(model, config.task, [artifact.Feature(name=name) for name in NAMES])
    registry = adapters.registry(config)
    assert registry.register(model, schema, created_at=START).version == CHAMPION
    writer = adapters.local_writer(config, "router")
    records = []
    for i, at in enumerate(times):
        id, ramp = f"p{i:06d}", ramp_from is not None and at >= START + ramp_from * DAY
        prediction = Prediction(
            id=id,
            at=float(at),
            experiment=config.experiment,
            unit=id,
            bucket=0,
            assigned="challenger" if ramp and i % 4 == 0 else "champion",
            served="challenger" if ramp and i % 4 == 0 else "champion",
            allocation=1,
            champion=CHAMPION,
            contenders=[Contender(rollout="r", challenger="v0000", propensity=0.25)] if ramp else [],
            rollout="r" if ramp and i % 4 == 0 else None,
            output=[0.5, 0.5],
            features=dict(zip(names, map(float, x[i]), strict=True)),
        )
        truth = float(y[i]) if config.task == "regression" else 0 if fault == "one class" else int(y[i])
        if fault == "no truths" and i % 4:
            truth = 7  # a class that the champion does not have
        outcome = Outcome(id=id, at=float(at) + 3600, experiment=config.experiment, value=truth)
        records.append(Record(keys.PREDICTIONS, id, float(at), events.encode(prediction)))
        records.append(Record(keys.OUTCOMES, id, float(at) + 3600, events.encode(outcome)))
    await writer.append(records)
    await writer.close()
    store = adapters.state(config)
    await control.create(store, begin(config.experiment, CHAMPION, START))
    await store.close()
    return START + (15 if fault == "too few" else days) * DAY


def drift(at: float, severity: str = "HIGH", event: str = "open", **more: object) -> Drift:
    """A drift event about the champion, as the evaluator would say it."""
    known = {"root_cause": "concept", "action": "retrain_recent", "model": CHAMPION, "episode": "e1", **more}
    return Drift(
        id=f"{known['episode']}-{event}",
        at=at,
        experiment="turning",
        event=event,
        severity=severity,
        confidence=0.9,
        rows=1000,
        **known,
    )


def history(start: datetime, end: datetime) -> pd.DataFrame:
    """A user's loader: the turned concept in the 30 days before the stream, newest first, with a row too new and one
    without an outcome."""
    x, y, times = rows(30, 60, 0, 11, "classification")
    frame = pd.DataFrame(x, columns=list(NAMES)).assign(
        target=y.astype(float), at=pd.to_datetime(times, unit="s", utc=True)
    )
    frame["time"] = frame.pop("at") - pd.Timedelta(days=30)
    frame.loc[3, "target"] = None
    late = frame.iloc[[5]].assign(time=end + timedelta(seconds=1))
    assert (start.tzinfo, end.tzinfo) == (UTC, UTC)
    return pd.concat([frame.iloc[::-1], late]).assign(note="more than is asked for")


def nameless_history(start: datetime, end: datetime) -> list[dict[str, object]]:
    return [{"x1": 1.0, "x2": 2.0, "label": 1, "time": start}]


def spelled_history(start: datetime, end: datetime) -> list[dict[str, object]]:
    """The same rows as a warehouse may write them: numbers as texts, naive times in UTC as texts."""
    frame = history(start, end)
    times = frame["time"].dt.tz_localize(None).astype(str)
    return frame.assign(x1=frame["x1"].map(repr), x3=frame["x3"].map(Decimal), time=times).to_dict("records")


def broken_history(start: datetime, end: datetime) -> pd.DataFrame:
    raise ConnectionError("no warehouse today")


def timeless_history(start: datetime, end: datetime) -> pd.DataFrame:
    return history(start, end).assign(time="some day")


def truthless_history(start: datetime, end: datetime) -> pd.DataFrame:
    return history(start, end).assign(target="ja")


def blank_history(start: datetime, end: datetime) -> pd.DataFrame:
    return history(start, end).assign(target=None)


def patient_trainer(features: list[dict[str, float]], targets: np.ndarray) -> object:
    """A user's trainer that says in `started` that it runs, and waits for the file `go` beside it."""
    folder = Path(os.environ["TRAINER_FOLDER"])
    (folder / "started").write_text(str(os.getpid()))
    while not (folder / "go").exists():
        time.sleep(0.01)
    x = np.array([[row[name] for name in NAMES] for row in features])
    return LogisticRegression().fit(x, targets)


def broken_trainer(features: list[dict[str, float]], targets: np.ndarray) -> object:
    raise ZeroDivisionError("no luck today")


def greedy_trainer(features: list[dict[str, float]], targets: np.ndarray) -> object:
    """A user's trainer that takes memory for ever, in a child of its own."""
    child = "import time; held = []\nwhile True: held.append(bytearray(8 * 2**20)); time.sleep(0.01)"
    subprocess.run([sys.executable, "-c", child], check=True)
    raise AssertionError("it should not have come to this")


def good_trainer(features: list[dict[str, float]], targets: np.ndarray) -> object:
    return LogisticRegression().fit(np.array([[row[name] for name in NAMES] for row in features]), targets)


class _Slow(LogisticRegression):
    """As good as any other, and three milliseconds slower."""

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        time.sleep(0.003)
        return super().predict_proba(x)


def slow_trainer(features: list[dict[str, float]], targets: np.ndarray) -> object:
    return _Slow().fit(np.array([[row[name] for name in NAMES] for row in features]), targets)


def nan_trainer(features: list[dict[str, float]], targets: np.ndarray) -> object:
    """A model whose every coefficient is not a number."""
    x = np.array([[row[name] for name in NAMES] for row in features])
    model = LogisticRegression().fit(x, targets)
    model.coef_[:] = np.nan
    return model


def narrow_trainer(features: list[dict[str, float]], targets: np.ndarray) -> object:
    """A model that takes only the first of the features."""
    return LogisticRegression().fit(np.array([[row["x1"]] for row in features]), targets)


class _Unsavable(LogisticRegression):
    """A model that holds what no file can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.held = threading.Lock()


def unsavable_trainer(features: list[dict[str, float]], targets: np.ndarray) -> object:
    return _Unsavable().fit(np.array([[row[name] for name in NAMES] for row in features]), targets)


def loud_trainer(features: list[dict[str, float]], targets: np.ndarray) -> object:
    """A trainer that prints 12 MB, a secret at the end, and then waits to be ended."""
    sys.stdout.write("".join(f"{number:08d} {'.' * 90}\n" for number in range(120_000)))
    sys.stdout.write("now with token=abcdefgh12345\n")
    sys.stdout.flush()
    Path(os.environ["TRAINER_FOLDER"], "started").write_text(str(os.getpid()))
    time.sleep(600)
    raise AssertionError("it should not have come to this")
