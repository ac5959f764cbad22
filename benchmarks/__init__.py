"""Every number in docs/benchmarks.md, re-runnable: one module a table; `python -m benchmarks` prints the rates."""
