"""Abrupt changes of concept on labelled streams: found, false alarms, delay: `python -m benchmarks.drift_concept`.

Gauntlet's monitor beside River's detectors as they come and a dummy that alarms every 48 rows. A change is found when
an alarm comes within 1,000 rows after it; alarms before it, and on streams without a change, are false.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from river.drift import ADWIN, PageHinkley
from river.drift.binary import DDM, EDDM, HDDMA

from benchmarks import main
from benchmarks.labelled_streams import FAMILIES, Misses, misses
from benchmarks.loss_stream import fit_losses, observe_losses
from evaluator.drift.monitor import Monitor

WITHIN = 1000
Detector = Callable[[Misses], Iterator[int]]
"""Rows of the alarms on a stream."""


def gauntlet(stream: Misses) -> Iterator[int]:
    monitor = Monitor(fit_losses(stream.reference))
    times = np.arange(float(len(stream.live)))
    for event in observe_losses(monitor, stream.live, times):
        if event.event == "open":
            yield int(event.at)


def river(make: Callable[[], Any]) -> Detector:
    def run(stream: Misses) -> Iterator[int]:
        detector = make()
        for miss in stream.reference:
            detector.update(miss)
        for row, miss in enumerate(stream.live):
            detector.update(miss)
            if detector.drift_detected:
                yield row
                # Detectors start anew by themselves at the next row.

    return run


def dummy(stream: Misses) -> Iterator[int]:
    return iter(range(47, len(stream.live), 48))


DETECTORS: dict[str, Detector] = {
    "gauntlet": gauntlet,
    "river ADWIN": river(ADWIN),
    "river DDM": river(DDM),
    "river EDDM": river(EDDM),
    "river HDDM_A": river(HDDMA),
    "river PageHinkley": river(PageHinkley),
    "dummy, every 48": dummy,
}


@dataclass
class Count:
    """Delays of the changes that were found, and false alarms in a number of rows before or without a change."""

    streams: int = 0
    delays: list[int] = field(default_factory=list)
    false: int = 0
    rows: int = 0

    def add(self, alarms: list[int], change: int) -> None:
        self.false += sum(row < change for row in alarms)
        self.rows += change
        self.delays += [row - change + 1 for row in alarms if row >= change][:1]

    @property
    def figures(self) -> dict[str, float]:
        return {
            "found": len(self.delays) / self.streams,
            "median_delay": statistics.median(self.delays) if self.delays else float("nan"),
            "false_alarms_per_100000": 1e5 * self.false / self.rows,
            "still_rows": self.rows,
        }


def measured(detector: Detector, streams: int, still_rows: int) -> dict[str, dict[str, float]]:
    """Figures a family and together; the same seeds for every detector."""
    counts: dict[str, Count] = {}
    for number, (name, family) in enumerate(FAMILIES.items()):
        count = counts[name] = Count(streams)
        for seed in range(streams):
            rng = np.random.default_rng([number, seed])
            stream = misses(family, rng, int(rng.integers(2000, 8000)), WITHIN)
            count.add(list(detector(stream)), stream.change)
        still = misses(family, np.random.default_rng([number, 10**6]), still_rows, 0)
        count.add(list(detector(still)), still_rows)
    parts = list(counts.values())
    delays = [delay for part in parts for delay in part.delays]
    counts["all"] = Count(
        streams * len(parts), delays, sum(part.false for part in parts), sum(part.rows for part in parts)
    )
    return {name: count.figures for name, count in counts.items()}


def run(streams: int = 50, still_rows: int = 200_000, only: tuple[str, ...] = ("all", *DETECTORS)) -> Iterator[str]:
    """The table, over `streams` with a change and one of `still_rows` without, a family each."""
    yield f"{'detector':18} {'stream':8} {'found':>6} {'delay':>6} {'false / 100,000 rows':>22}"
    for name, detector in DETECTORS.items():
        if only not in ("all", name):
            continue
        for family, numbers in measured(detector, streams, still_rows).items():
            found, delay = numbers["found"], numbers["median_delay"]
            yield f"{name:18} {family:8} {found:6.0%} {delay:6.0f} {numbers['false_alarms_per_100000']:22.2f}"


if __name__ == "__main__":
    main(run)
