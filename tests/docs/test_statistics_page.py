"""docs/statistics.md names every file of the statistics, and none that does not exist."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "statistics.md").read_text()
FOLDERS = ("evaluator/stats", "evaluator/stats/metrics")
# What the page needs not speak of: the packages, and the errors.
UNNAMED = {"__init__.py", "errors.py"}


def test_every_file_has_its_place_on_the_page() -> None:
    files = {path.name for folder in FOLDERS for path in (ROOT / folder).glob("*.py")} - UNNAMED
    named = set(re.findall(r"`(\w+\.py)`", PAGE)) | {f"{name}.py" for name in re.findall(r"`(\w+)\.\w+`", PAGE)}
    assert files - named == set()
    assert set(re.findall(r"`(\w+\.py)`", PAGE)) <= files


def test_every_definition_named_with_its_file_is_there() -> None:
    pairs = [pair for pair in re.findall(r"`(\w+)\.(\w+)`", PAGE) if pair[1] not in ("py", "json")]
    assert len(pairs) >= 4
    for module, name in pairs:
        assert re.search(rf"^(def|class) {name}\b", (ROOT / FOLDERS[0] / f"{module}.py").read_text(), re.M), name


def test_the_example_of_the_off_policy_gate_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Two actions drawn alike, of which the challenger takes the better one; then one that was never drawn."""
    (code,) = re.findall(r"```python\n(from evaluator\.stats\.off_policy.*?)```", PAGE, re.S)
    rng = np.random.default_rng(3)
    better = rng.random(2000) < 0.5
    names = {"rewards": (rng.random(2000) < np.where(better, 0.7, 0.4)).astype(float), "propensity": np.full(2000, 0.5)}
    exec(code, {**names, "chance": better.astype(float)})
    exec(code, {**names, "propensity": np.ones(2000), "chance": np.zeros(2000)})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("pass ")
    assert printed[1].startswith("no answer ")
