"""The rules of style that no linter knows: sizes, a formatter that has its way, tests that use only public names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = sorted(
    path
    for top in ("gauntlet", "router", "evaluator", "retrainer", "benchmarks")
    for path in (ROOT / top).rglob("*.py")
)
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MOST_LINES = 400
MOST_FUNCTION_LINES = 60
MOST_FORMATTER_COMMENTS = 19

FOREIGN = {
    "_exit": "os._exit is public, its name says that it is abrupt",
    "_labelnames": "prometheus_client shows the labels of a metric nowhere else before its first sample",
    "_predictors": "scikit-learn's own state, which a test damages as a hostile file would",
    "_tree": "scikit-learn's own state, which a test damages as a hostile file would",
}
"""Private names of other people's packages that tests use, and why."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def own_names(tree: ast.AST) -> Iterator[str]:
    """Private names that a module defines: its functions, methods, classes, and what it assigns to `self` or itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def foreign_names(tree: ast.AST, own: set[str]) -> Iterator[tuple[int, str]]:
    """Line and name of every private name of another module that is imported, read or replaced."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from ((node.lineno, part) for part in parts if is_private(part))
        elif isinstance(node, ast.Import):
            parts = [part for alias in node.names for part in alias.name.split(".")]
            yield from ((node.lineno, part) for part in parts if is_private(part))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            holder = node.value
            if isinstance(holder, ast.Call):
                holder = holder.func  # super()
            within = isinstance(holder, ast.Name) and holder.id in ("self", "cls", "super")
            if not (within and node.attr in own):
                yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("setattr", "getattr", "delattr")):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield from ((node.lineno, p) for p in argument.value.split(".") if is_private(p))


OWN = {name for path in TESTS for name in own_names(ast.parse(path.read_text())) if is_private(name)}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", TESTS, ids=relative)
def test_tests_use_no_private_name_of_another_module(path: Path) -> None:
    found = [(line, name) for line, name in foreign_names(ast.parse(path.read_text()), OWN) if name not in FOREIGN]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "from gauntlet.log.kafka import _BATCH_BYTES",
        "from gauntlet._private import x",
        "import gauntlet._private",
        "monitor._windows.rows",
        "self._windows_of_the_product.rows",
        "worker.step()._sums",
        "monkeypatch.setattr(up, '_STOP_SECONDS', 1)",
        "monkeypatch.setattr('gauntlet.cli.up._STOP_SECONDS', 1)",
        "getattr(worker, '_sums')",
    ],
)
def test_a_private_name_is_seen_in_whatever_form(line: str) -> None:
    assert list(foreign_names(ast.parse(line), {"_own"}))


@pytest.mark.parametrize("line", ["self._own", "super()._own()", "a.__class__", "from __future__ import annotations"])
def test_a_name_of_ones_own_is_allowed(line: str) -> None:
    assert not list(foreign_names(ast.parse(line), {"_own"}))


def test_no_file_is_longer_than_can_be_read_in_one_go() -> None:
    lines = {relative(path): len(path.read_text().splitlines()) for path in PRODUCT + TESTS}
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}


def test_a_long_function_says_why() -> None:
    found = []
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_FUNCTION_LINES and "Long:" not in (ast.get_docstring(node) or ""):
                    found.append((relative(path), node.name, lines))
    assert found == []


def test_the_formatter_is_not_overruled() -> None:
    comments = [line for path in PRODUCT + TESTS for line in re.findall(r"#\s*fmt:.*", path.read_text())]
    assert len(comments) <= MOST_FORMATTER_COMMENTS
