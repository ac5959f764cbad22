"""What all pages promise alike: every option that they name exists, every table is one, every link leads somewhere."""

from __future__ import annotations

import contextlib
import io
import re
from functools import cache
from pathlib import Path

import pytest

from gauntlet.cli import main

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
COMMANDS = re.compile(r"\bgauntlet ((?:retrain )?[a-z]+)((?:[^`\n|\\]|\\\n)*)")
"""A command and what follows it: to the end of its line (or of the lines that it goes on in), code or cell."""


@cache
def explained(command: str) -> str:
    """What `--help` says of a command."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    return said.getvalue()


def named_options() -> list[tuple[str, str, str]]:
    """Page, command and option, each once."""
    found = {
        (page, " ".join(command.split()), option): None
        for page, text in PAGES.items()
        for command, rest in COMMANDS.findall(text)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", rest)
    }
    return [*found]


@pytest.mark.parametrize(("page", "command", "option"), named_options())
def test_every_option_that_a_page_names_exists(page: str, command: str, option: str) -> None:
    assert re.search(rf"{option}(?![\w-])", explained(command)), f"{page}: gauntlet {command} has no {option}"


@pytest.mark.parametrize("page", PAGES)
def test_every_table_has_its_head(page: str) -> None:
    lines = [line for code in PAGES[page].split("```")[::2] for line in code.splitlines()]
    starts = [
        n for n, line in enumerate(lines) if line.startswith("|") and (n == 0 or not lines[n - 1].startswith("|"))
    ]
    assert all(re.fullmatch(r"\|(?: ?:?-+:? ?\|)+", lines[n + 1]) for n in starts), page


@pytest.mark.parametrize("page", PAGES)
def test_no_line_is_too_long_to_read_in_a_diff(page: str) -> None:
    prose = "".join(PAGES[page].split("```")[::2]).splitlines()
    assert [line for line in prose if len(line) > 142 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for place in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        path, _, heading = place.partition("#")
        target = folder / path if path else folder / page
        assert "://" in place or target.is_file(), place
        if heading and "://" not in place:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, place


def test_the_options_were_found() -> None:
    assert len(named_options()) > 40
