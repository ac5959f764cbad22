"""Changes of concept, at once and gradual: found, delay, false alarms: `python -m benchmarks.drift_concept`.

Gauntlet's monitor beside River's detectors as they come and a dummy that alarms every 48 rows, on the same streams. A
change is found by an alarm between its start and 1,000 rows after its end; the delay counts from the start. False are
alarms before it and on streams without one; `again` are those after these 1,000 rows where it has been told already.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from river.drift import ADWIN, KSWIN, PageHinkley
from river.drift.binary import DDM, EDDM, HDDMA, HDDMW

from benchmarks import main, progress
from benchmarks.labelled_streams import FAMILIES, Losses, Shape, losses
from benchmarks.loss_stream import fit_losses, observe_losses
from evaluator.drift.monitor import Monitor

WITHIN = 1000
AFTER = 4000
"""Rows after that in which nothing changes any more."""
CELLS: tuple[tuple[int, Shape], ...] = (
    (0, "linear"),
    *((width, shape) for width in (500, 1000, 2000, 5000) for shape in ("linear", "sigmoid")),
)
Detector = Callable[[Losses], Iterator[int]]
"""Rows of the alarms on a stream."""


def gauntlet(stream: Losses) -> Iterator[int]:
    monitor = Monitor(fit_losses(stream.reference))
    times = np.arange(float(len(stream.live)))
    for event in observe_losses(monitor, stream.live, times):
        if event.event == "open":
            yield int(event.at)


def river(make: Callable[[], Any], *, binary: bool = False) -> Detector:
    """A detector fed the reference, then the stream; one of binary misses gets those above the reference's 90 %."""

    def run(stream: Losses) -> Iterator[int]:
        detector = make()
        limit = np.quantile(stream.reference, 0.9) if binary and stream.reference.max() > 1.0 else 0.0
        for row, loss in enumerate(np.concatenate([stream.reference, stream.live]).tolist(), -len(stream.reference)):
            detector.update(loss > limit if binary else loss)
            if row >= 0 and detector.drift_detected:
                yield row
                # Detectors start over by themselves at the next row.

    return run


def dummy(stream: Losses) -> Iterator[int]:
    return iter(range(47, len(stream.live), 48))


DETECTORS: dict[str, Detector] = {
    "gauntlet": gauntlet,
    "river ADWIN": river(ADWIN),
    "river HDDM_A": river(HDDMA, binary=True),
    "river HDDM_W": river(HDDMW, binary=True),
    "river DDM": river(DDM, binary=True),
    "river EDDM": river(EDDM, binary=True),
    "river PageHinkley": river(PageHinkley),
    "river KSWIN": river(lambda: KSWIN(seed=0)),
    "dummy, every 48": dummy,
}
_SLOW = "river KSWIN"  # a Kolmogorov-Smirnov test at every row: only where it is asked for


@dataclass
class Count:
    """Delays of the changes that were found; alarms, and rows to have them in, before a change and after it."""

    streams: int = 0
    delays: list[int] = field(default_factory=list)
    false: int = 0
    rows: int = 0
    again: int = 0
    rows_after: int = 0

    def add(self, alarms: list[int], stream: Losses) -> None:
        over = stream.end + WITHIN
        self.false += sum(row < stream.start for row in alarms)
        self.rows += stream.start
        if stream.start == len(stream.live):
            return
        self.streams += 1
        since = [row for row in alarms if row >= stream.start]
        self.delays += [row - stream.start + 1 for row in since[:1] if row < over]
        self.again += sum(row >= over for row in since[1:])
        self.rows_after += len(stream.live) - over

    def __add__(self, other: Count) -> Count:
        return Count(
            self.streams + other.streams,
            self.delays + other.delays,
            self.false + other.false,
            self.rows + other.rows,
            self.again + other.again,
            self.rows_after + other.rows_after,
        )

    @property
    def figures(self) -> dict[str, float]:
        return {
            "found": len(self.delays) / max(1, self.streams),
            "median_delay": statistics.median(self.delays) if self.delays else float("nan"),
            "false_alarms_per_100000": 1e5 * self.false / max(1, self.rows),
            "still_rows": self.rows,
            "again_per_100000": 1e5 * self.again / max(1, self.rows_after),
        }


def measured(
    detector: Detector, streams: int, still_rows: int, width: int = 0, shape: Shape = "linear"
) -> dict[str, Count]:
    """Counts a family and together; the same seeds for every detector."""
    counts: dict[str, Count] = {}
    for number, (name, family) in enumerate(FAMILIES.items()):
        count = counts[name] = Count()
        for seed in range(streams):
            rng = np.random.default_rng([number, seed, width, shape == "linear"])
            stream = losses(family, rng, int(rng.integers(2000, 8000)), WITHIN + AFTER, width, shape)
            count.add(list(detector(stream)), stream)
        if still_rows:
            still = losses(family, np.random.default_rng([number, 10**6]), still_rows, 0)
            count.add(list(detector(still)), still)
    counts["all"] = sum(counts.values(), Count())
    return counts


def run(
    streams: int = 8, still_rows: int = 200_000, only: tuple[str, ...] = ("all", *DETECTORS), families: bool = False
) -> Iterator[str]:
    """A row for each width of the transition and its shape, over `streams` of each family, and one for the streams of
    `still_rows` in which nothing changes; `families`: a row for each family, too."""
    yield f"{'':44} {'found':>6} {'delay':>6} {'false':>8} {'again':>8} in 100,000 rows"
    for name, detector in DETECTORS.items():
        if only != name and (only != "all" or name == _SLOW):
            continue
        whole = measured(detector, 0, still_rows)["all"]
        for width, shape in progress(CELLS, name):
            found = measured(detector, streams, 0, width, shape)
            whole += found["all"]
            for family, count in found.items():
                if families or family == "all":
                    yield _row(name, f"{width} {shape}" if width else "at once", family, count)
        yield _row(name, "all, and still", "all", whole)


def _row(name: str, transition: str, family: str, count: Count) -> str:
    numbers = count.figures
    return (
        f"{name:18} {transition:14} {family:10} {numbers['found']:6.0%} {numbers['median_delay']:6.0f}"
        f" {numbers['false_alarms_per_100000']:8.2f} {numbers['again_per_100000']:8.2f}"
    )


if __name__ == "__main__":
    main(run)
