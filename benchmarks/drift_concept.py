"""Abrupt changes of concept on labelled streams: found, false alarms, delay: `python -m benchmarks.drift_concept`.

Gauntlet's monitor beside River's detectors as they come and a dummy that alarms every 48 rows. A change is found when
an alarm comes within 1,000 rows after it; alarms before it, and on streams without a change, are false.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from river.drift import ADWIN, PageHinkley
from river.drift.binary import DDM, EDDM, HDDMA

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


def measured(detector: Detector, streams: int, still_rows: int) -> dict[str, dict[str, float]]:
    """Figures a family and together; the same seeds for every detector."""
    results: dict[str, dict[str, float]] = {}
    all_delays: list[int] = []
    all_false = all_rows = 0
    for number, (name, family) in enumerate(FAMILIES.items()):
        delays: list[int] = []
        false = rows = 0
        for seed in range(streams):
            rng = np.random.default_rng([number, seed])
            stream = misses(family, rng, int(rng.integers(2000, 8000)), WITHIN)
            alarms = list(detector(stream))
            false += sum(row < stream.change for row in alarms)
            rows += stream.change
            after = [row - stream.change + 1 for row in alarms if row >= stream.change]
            delays += after[:1]
        still = misses(family, np.random.default_rng([number, 10**6]), still_rows, 0)
        false += sum(1 for _ in detector(still))
        rows += still_rows
        results[name] = {
            "found": len(delays) / streams,
            "median_delay": statistics.median(delays) if delays else float("nan"),
            "false_alarms_per_100000": 1e5 * false / rows,
        }
        all_delays += delays
        all_false, all_rows = all_false + false, all_rows + rows
    results["all"] = {
        "found": len(all_delays) / (streams * len(FAMILIES)),
        "median_delay": statistics.median(all_delays) if all_delays else float("nan"),
        "false_alarms_per_100000": 1e5 * all_false / all_rows,
        "still_rows": all_rows,
    }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=50, help="streams with a change, a family")
    parser.add_argument("--still-rows", type=int, default=200_000, help="rows of the stream without one, a family")
    parser.add_argument("--only", choices=DETECTORS, help="one detector")
    given = parser.parse_args()
    results = {
        name: measured(detector, given.streams, given.still_rows)
        for name, detector in DETECTORS.items()
        if given.only in (None, name)
    }
    print(f"{'detector':18} {'stream':8} {'found':>6} {'delay':>6} {'false / 100,000 rows':>22}")
    for name, families in results.items():
        for family, numbers in families.items():
            found, delay = numbers["found"], numbers["median_delay"]
            print(f"{name:18} {family:8} {found:6.0%} {delay:6.0f} {numbers['false_alarms_per_100000']:22.2f}")


if __name__ == "__main__":
    main()
