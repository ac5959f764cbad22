"""Labels that the current rows write otherwise than the reference, as true/false against yes/no."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gauntlet import drift

REASON = "they differ in how they write yes and no"


def table(path: Path, target: tuple[str, str], prediction: tuple[str, str]) -> str:
    rng = np.random.default_rng(3)
    y = rng.random(600) < 0.4
    p = y ^ (rng.random(600) < 0.1)
    x = rng.normal(size=600)
    columns = {"x": x, "y": np.array(target)[y.astype(int)], "p": np.array(prediction)[p.astype(int)]}
    pd.DataFrame(columns).to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize(
    ("reference", "target", "prediction", "column"),
    [
        (("no", "yes"), ("false", "true"), ("no", "yes"), "y"),
        (("no", "yes"), ("no", "yes"), ("false", "true"), "p"),
        (("no", "yes"), ("no", "yes"), ("0", "1"), "p"),
        (("no", "yes"), ("0", "1"), ("no", "yes"), "y"),
        (("false", "true"), ("no", "yes"), ("false", "true"), "y"),
        (("0", "1"), ("0", "1"), ("no", "yes"), "p"),
    ],
)
def test_the_reason_is_said(
    tmp_path: Path, reference: tuple[str, str], target: tuple[str, str], prediction: tuple[str, str], column: str
) -> None:
    before = table(tmp_path / "before.csv", reference, reference)
    now = table(tmp_path / "now.csv", target, prediction)
    report = drift(before, now, target="y", prediction="p")
    said = [one.message for one in report.quality.findings if one.column == column]
    assert any(REASON in message for message in said), said
