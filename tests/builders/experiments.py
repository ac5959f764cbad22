"""Logs of experiments, their analysis, and answers made by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import gauntlet
from evaluator.offline.experiment.result import (
    Analysis,
    ArmComparison,
    ClassicalTest,
    LookPoint,
    SampleRatioResult,
    Stopped,
    TrafficGuard,
)

SHARES = {"A": 0.8, "B": 0.2}


def log(n: int, effect: float = 0.0, seed: int = 1, share: float = 0.2) -> pd.DataFrame:
    """Rows with a 0/1 outcome, a skewed loss and two segments; B is better by `effect` in both."""
    rng = np.random.default_rng(seed)
    b = rng.random(n) < share
    return pd.DataFrame(
        {
            "arm": np.where(b, "B", "A"),
            "y": (rng.random(n) < 0.6 + effect * b).astype(float),
            "loss": rng.exponential(1.0, n) - effect * b,
            "country": rng.choice(["DE", "FR"], n),
            "pi": share,
        }
    )


def analysed(frame: Any, **options: Any) -> Analysis:
    given = {"arm": "arm", "champion": "A", "metric": "y:proportion", "share": SHARES} | options
    return gauntlet.analyze(frame, **{name: value for name, value in given.items() if value is not None})


def only(analysis: Analysis) -> ArmComparison:
    (comparison,) = analysis.comparisons
    return comparison


def find(analysis: Analysis, **wanted: Any) -> ArmComparison:
    (found,) = [c for c in analysis.comparisons if all(getattr(c, name) == value for name, value in wanted.items())]
    return found


def units(n: int, seed: int, exposed_twice: bool = False) -> pd.DataFrame:
    """Ten rows a unit; the unit's own level makes most of the variance."""
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, n // 10, n)
    b, level = rng.random(n // 10) < 0.5, rng.normal(0.0, 2.0, n // 10)
    arm = rng.random(n) < 0.5 if exposed_twice else b[unit]
    return pd.DataFrame({"arm": np.where(arm, "B", "A"), "y": level[unit] + rng.normal(0.0, 1.0, n), "user": unit})


def spoiled(column: str, value: Any, row: int = 77) -> pd.DataFrame:
    frame = log(400)
    frame[column] = frame[column].astype(object)
    frame.loc[row, column] = value
    return frame


EVIL = "<script>alert(1)</script>&\"'$x_\\frac{$\x1b[31m\x00日本"


def history(effect: float, looks: int = 40) -> tuple[LookPoint, ...]:
    rng = np.random.default_rng(11)
    points = []
    for look in range(1, looks + 1):
        width = 0.05 / math.sqrt(look)
        now = effect + float(rng.normal()) * width / 6
        early = look < 4
        points.append(
            LookPoint(
                rows=500 * look,
                effect=now,
                lower=None if early else now - width,
                upper=None if early else now + width,
                z=3 * now / width,
                bound_lower=None if early else -2.0 * math.sqrt(looks / look),
                bound_upper=None if early else 2.0 * math.sqrt(looks / look),
            )
        )
    return tuple(points)


def comparison(**changes: Any) -> ArmComparison:
    whole = ArmComparison(
        challenger="gbm",
        metric="loss",
        segment=None,
        kind="mean",
        direction="lower",
        role="primary",
        margin=0.0,
        n={"old": 10_100, "gbm": 9_900},
        mean={"old": 0.412, "gbm": 0.40046},
        effect=-0.01154,
        lower=-0.0194,
        upper=-0.0036,
        z=-4.4,
        p_value=0.0003,
        adjusted_p_value=0.0006,
        fixed=ClassicalTest(-4.5, 7e-6),
        verdict="better",
        reasons=("the interval lies on the better side of 0",),
        looks=40,
        stopped=Stopped(21, 10_500, "better", -0.0131, -0.024, -0.0022),
        information_fraction=0.93,
        blocks=60,
        widening=1.31,
        skewness=0.4,
        history=history(-0.0115),
    )
    return replace(whole, **changes)


def analysis(**changes: Any) -> Analysis:
    parts = [
        comparison(
            segment=f"country={name}",
            effect=effect,
            lower=effect - 0.01,
            upper=effect + 0.01,
            verdict=verdict,
            p_value=p,
            history=(),
            stopped=None,
            n={"old": 1000, "gbm": 1000 + rank},
        )
        for rank, (name, effect, verdict, p) in enumerate(
            [("de", -0.012, "better", 0.01), ("fr", 0.011, "worse", 0.02), ("us", 0.001, "inconclusive", 0.9)]
        )
    ]
    whole = Analysis(
        id="deadbeef",
        verdict="better",
        reasons=("loss: gbm is better", "no guardrail is harmed"),
        sample_ratio=SampleRatioResult(
            0.34,
            0.81,
            False,
            {"old": 10_100, "gbm": 9_900},
            {"old": 10_000.0, "gbm": 10_000.0},
            "the counts fit the shares",
        ),
        comparisons=(
            comparison(),
            comparison(
                metric="latency", kind="p99", role="guardrail", margin=0.02, stopped=None, verdict="inconclusive"
            ),
            *parts,
        ),
        guards=(
            TrafficGuard("multiple exposure", True, "no unit met two arms"),
            TrafficGuard("label arrival", False, "late labels"),
        ),
        champion="old",
        challengers=("gbm",),
        mode="group-sequential",
        alpha=0.05,
        rows=20_000,
        settings={"arm": "arm", "shares": {"old": 0.5, "gbm": 0.5}, "propensity": None, "cluster": None},
    )
    return replace(whole, **changes)
