"""Drift on real flights: `python -m benchmarks.drift_flights`.

A model learned from January and never again. February and March, which it has not seen, are the reference for the rest
of 2013: months like the reference should be quiet, the summer should be found. Nothing is asserted, it is printed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

import gauntlet
from benchmarks import main
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


def against(year: pd.DataFrame, before: tuple[int, ...], now: int, mode: str) -> str:
    """One month against others: what `gauntlet drift` finds, and the model's error rate on both sides."""
    sides = [year[year["month"].isin(months)].drop(columns="month") for months in (before, (now,))]
    found = gauntlet.drift(*sides, target="late", prediction="probability", mode=mode)
    was, now_is = (((side["probability"] >= 0.5) != side["late"])[side["late"].notna()].mean() for side in sides)
    title = f"{'+'.join(map(str, before)):>3} -> {now:>2}  {mode:6}  {found.severity:8}  {found.root_cause:9}"
    return f"  {title}  error {was:.3f} -> {now_is:.3f}  {_kinds(found.signals)}"


def stream(year: pd.DataFrame) -> Iterator[str]:
    """The rest of the year as one file: its events."""
    reference = int(year["month"].isin(REFERENCE).sum())
    months = year["month"].to_numpy()
    stream = gauntlet.drift_stream(year.drop(columns="month"), reference, target="late", prediction="probability")
    for event in stream.events():
        place = f"row {event.row:>7,}  month {months[event.row]:>2}"
        yield f"  {place}  {event.event:8}  {event.severity:8}  {event.root_cause:9}  {_kinds(event.signals)}"


def _kinds(signals: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(sorted({signal["kind"] for signal in signals}))


def run() -> Iterator[str]:
    year = table()
    yield "Months like their neighbours"
    for before, now in LIKE:
        for mode in ("gated", "simple"):
            yield against(year, (before,), now, mode)
    yield "Against February and March"
    for month in range(4, 13):
        yield against(year, REFERENCE, month, "gated")
    begin = time.perf_counter()
    events = list(stream(year))
    yield f"As a stream: {len(year):,} rows in {time.perf_counter() - begin:.1f} s"
    yield from events


if __name__ == "__main__":
    main(run)
