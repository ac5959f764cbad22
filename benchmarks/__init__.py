"""Every number in docs/benchmarks.md, re-runnable: a module for each table, the README's figures by `__main__`."""
