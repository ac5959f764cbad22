"""Drift on real flights: `python -m benchmarks.drift_flights [--json FILE]`.

A model learned from January and never again. February and March, which it has not seen, are the reference for the rest
of 2013: months like the reference should be quiet, the summer should be found. Nothing is asserted, it is printed.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import gauntlet
from gauntlet.cli.demo import flights

REFERENCE = (2, 3)
LIKE = ((2, 3), (3, 2), (6, 7), (10, 11))
"""Months that are much like the month before or after them."""


def table() -> pd.DataFrame:
    """Every flight from February on with the January model's probability and what came, in order of departure."""
    year = flights.load()
    rows = year.rows()
    january = np.flatnonzero((year.month == 1) & ~np.isnan(year.late))
    model = flights.train([rows[i] for i in january], year.late[january])
    frame = pd.DataFrame({name: list(values) for name, values in year.columns.items()})
    frame["late"], frame["probability"], frame["month"] = year.late, model.predict_proba(rows)[:, 1], year.month
    return frame[frame["month"] > 1].reset_index(drop=True)


def month_by_month(year: pd.DataFrame, before: tuple[int, ...], now: int, mode: str) -> dict[str, Any]:
    """One month against others."""
    sides = [year[year["month"].isin(months)].drop(columns="month") for months in (before, (now,))]
    found = gauntlet.drift(*sides, target="late", prediction="probability", mode=mode)
    errors = [((side["probability"] >= 0.5) != side["late"])[side["late"].notna()].mean() for side in sides]
    return {
        "reference": list(before),
        "month": now,
        "mode": mode,
        "severity": found.severity,
        "root_cause": found.root_cause,
        "features": list(found.drifted),
        "signals": sorted({signal["kind"] for signal in found.signals}),
        "error_reference": round(float(errors[0]), 4),
        "error": round(float(errors[1]), 4),
    }


def stream(year: pd.DataFrame) -> tuple[list[dict[str, Any]], float]:
    """The year as one file: its events, each with its month, and seconds."""
    reference = int(year["month"].isin(REFERENCE).sum())
    months = year["month"].to_numpy()
    begin = time.perf_counter()
    watch = gauntlet.drift_stream(year.drop(columns="month"), reference, target="late", prediction="probability")
    events = [
        {
            "row": e.row,
            "month": int(months[e.row]),
            "event": e.event,
            "severity": e.severity,
            "root_cause": e.root_cause,
            "signals": sorted({signal["kind"] for signal in e.signals}),
        }
        for e in watch.events()
    ]
    return events, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    out = parser.parse_args().json
    year = table()
    like = [month_by_month(year, (before,), now, mode) for before, now in LIKE for mode in ("gated", "simple")]
    later = [month_by_month(year, REFERENCE, month, "gated") for month in range(4, 13)]
    events, seconds = stream(year)
    for title, rows in (("Months like their neighbours", like), ("Against February and March", later)):
        print(title)
        for r in rows:
            before = "+".join(map(str, r["reference"]))
            print(
                f"  {before:>3} -> {r['month']:>2}  {r['mode']:6}  {r['severity']:8}  {r['root_cause']:9}  "
                f"error {r['error_reference']:.3f} -> {r['error']:.3f}  {', '.join(r['signals'])}"
            )
    print(f"As a stream: {len(year):,} rows in {seconds:.1f} s")
    for e in events:
        print(
            f"  row {e['row']:>7,}  month {e['month']:>2}  {e['event']:8}  {e['severity']:8}  {e['root_cause']:9}  "
            f"{', '.join(e['signals'])}"
        )
    if out is not None:
        out.write_text(json.dumps({"like": like, "later": later, "events": events, "seconds": seconds}, indent=1))


if __name__ == "__main__":
    main()
