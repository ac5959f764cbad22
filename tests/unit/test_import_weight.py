"""The kernel is light: a process that only reads a configuration, or serves, imports no library that it doesn't use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gauntlet

HEAVY = {"sklearn", "scipy", "matplotlib", "pandas", "pyarrow", "river", "statsmodels", "skops", "joblib"}

WHERE_NEEDED = {
    "gauntlet.table",
    "gauntlet.table.arrays",
    "gauntlet.table.sources",
    "gauntlet.table.prefetch",
    "gauntlet.table.views",
    "gauntlet.registry.reference_file",
    "gauntlet.registry.index_checks",
    "gauntlet.markov",
}
"""Modules that are about one of these libraries; the others import them when a call needs them."""


def kernel() -> list[str]:
    root = Path(gauntlet.__file__).parent
    names = (
        ".".join(("gauntlet", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted(root.rglob("*.py"))
    )
    return [name for name in names if not name.startswith("gauntlet.cli") and name not in WHERE_NEEDED]


def test_no_module_of_the_kernel_imports_a_heavy_library() -> None:
    names = kernel()
    assert {"gauntlet.config.load", "gauntlet.first_start", "gauntlet.registry.artifact", "gauntlet.log.kafka"} <= set(
        names
    )
    code = f"import sys, {', '.join(names)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert HEAVY.isdisjoint(loaded)


def test_reading_a_configuration_imports_no_log_and_no_state_of_another_kind() -> None:
    code = "import sys, gauntlet.config.load; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"aiokafka", "redis", "sqlite3", "fastapi"}.isdisjoint(loaded)


def test_an_analysis_of_a_csv_waits_for_no_library_that_it_does_not_need(tmp_path: Path) -> None:
    rows = "".join(f"{'old' if i % 2 else 'new'},{(i * 7 % 11) % 3 % 2},{i % 5 or ''}\n" for i in range(400))
    (tmp_path / "log.csv").write_text("arm,correct,seconds\n" + rows)
    words = ["analyze", str(tmp_path / "log.csv"), "--arm", "arm", "--champion", "old", "--share", "old=.5,new=.5"]
    words += ["--metric", "correct:proportion"]
    code = f"import sys; from gauntlet.cli import main; main({words!r}); print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "new against old" in told
    loaded = set(told.splitlines()[-1].split())
    assert {"pandas", "scipy.stats", "sklearn", "matplotlib", "skops", "statsmodels"}.isdisjoint(loaded)
    assert "evaluator.offline.render.drift" not in loaded


def test_the_help_of_drift_reads_no_table() -> None:
    code = "import sys; from gauntlet.cli import main\ntry: main(['drift', '--help'])\nfinally: print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--reference-rows" in told
    assert {"pandas", "pyarrow", "matplotlib", "jinja2"}.isdisjoint(told.splitlines()[-1].split())
