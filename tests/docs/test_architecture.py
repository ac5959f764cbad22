"""docs/architecture.md names files and symbols that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`((?:gauntlet|router|evaluator|retrainer|tests)/[\w/.]*)`", PAGE)))
SYMBOLS = re.findall(r"^\| .+ \| `([\w/.]+)` \| `(\w+)` \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("path", PATHS)
def test_every_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("path", "symbol"), SYMBOLS)
def test_every_symbol_is_defined_where_it_says(path: str, symbol: str) -> None:
    source = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^\s*(?:async def|def|class) {symbol}\b|^{symbol}\b", source, re.MULTILINE), f"{path}: {symbol}"


def test_the_tables_were_found() -> None:
    assert len(SYMBOLS) > 20
    assert len(PATHS) > 40
