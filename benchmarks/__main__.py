"""`python -m benchmarks`: the figures of the README, made in this run: some minutes, and 2 GB of files for a while."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from benchmarks import analysis_speed, drift_files, evaluator_rate, main, predict_route


def run() -> Iterator[str]:
    """The lines, part by part."""
    yield f"Python {platform.python_version()}, {platform.machine()}\n"
    # analysis_speed comes first, because it reports the peak memory of this process.
    for part in (analysis_speed, predict_route, evaluator_rate, drift_files):
        yield from part.run()
        yield ""


if __name__ == "__main__":
    main(run)
