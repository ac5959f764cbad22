"""Every number in the README, re-runnable: `python -m benchmarks` prints the table, each module its own part."""
