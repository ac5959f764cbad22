"""`gauntlet events`: what the records say of retraining, from SQLite or PostgreSQL, wherever `records` has them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gauntlet.cli import output
from gauntlet.cli.command import DEFAULT_CONFIG
from gauntlet.errors import BadInput

if TYPE_CHECKING:
    from gauntlet.config import Config
    from retrainer.records.database import Database

QUESTIONS = {
    "all": "every retraining event, the newest first",
    "recent": "those of the last days, and what came of them",
    "by-trigger": "how often each trigger led to a job, and how many per cent of those succeeded",
    "improvement": "by how many per cent each new model was better than the champion of then",
    "decisions": "every change of what serves, with the checklist of promotions, rollbacks and archived challengers",
    "deliveries": "what was told to whom, and what could not be delivered",
}

_SHOWN = {
    "all": (
        "triggered_at",
        "job_id",
        "trigger_type",
        "severity",
        "execution_attempted",
        "execution_successful",
        "retraining_model_version",
        "trigger_reason",
    ),
    "decisions": ("at", "version", "command", "decision", "challenger", "champion", "checklist", "actor", "reason"),
    "deliveries": ("updated_at", "target", "kind", "severity", "status", "attempts", "title", "error"),
}
"""The columns of the text, where it has not all of them; the JSON has."""
_WIDEST = 60


def options(parser: argparse.ArgumentParser) -> None:
    """Give the command its arguments."""
    parser.epilog = "questions:\n" + "\n".join(f"  {name:<12} {about}" for name, about in QUESTIONS.items())
    parser.add_argument("question", choices=QUESTIONS, metavar="QUESTION", help=", ".join(QUESTIONS))
    about = f"the configuration of the experiment; default: {DEFAULT_CONFIG}"
    parser.add_argument("config", nargs="?", default=DEFAULT_CONFIG, help=about)
    parser.add_argument("--days", type=float, default=7.0, help="how far `recent` goes back (default: 7)")
    output.options(parser, html=False)


def run(arguments: argparse.Namespace) -> int:
    """Ask, and print or write the answer. Raises `BadInput` where there are no records, `RecordsUnavailable`."""
    import msgspec

    from gauntlet.cli import load_config

    output.check(arguments, arguments.config)
    if not 0 < arguments.days < 36_500:
        raise BadInput(f"--days {arguments.days:g}: it must be more than 0 and less than 36500")
    rows = _ask(arguments.question, load_config.load(arguments.config), arguments.days)
    json = msgspec.json.format(msgspec.json.encode(rows), indent=2).decode() + "\n"
    if arguments.json == "-":
        print(json, end="")
        return 0
    if arguments.json is not None:
        output.write("json", arguments.json, json)
    print(_table(rows, _SHOWN.get(arguments.question)), end="")
    return 0


def _ask(question: str, config: Config, days: float) -> list[dict[str, Any]]:
    from gauntlet.config.records import LOCAL
    from retrainer.records import queries
    from retrainer.records.database import Database, path

    local = path(Path(config.data))
    if config.records == LOCAL and not local.exists():
        raise BadInput(f"there are no records in {local} yet: the retrainer makes them when it runs")
    database = Database(config.records, Path(config.data))
    if not database.is_made():
        raise BadInput("there are no records in the database yet: the retrainer makes them when it runs")
    if question == "recent":
        return database.read(queries.recent(config.experiment, _now(config, database) - timedelta(days=days)))
    ask = {
        "all": queries.all_events,
        "by-trigger": queries.by_trigger,
        "improvement": queries.improvement,
        "decisions": queries.decisions,
        "deliveries": queries.deliveries,
    }[question]
    return database.read(ask(config.experiment))


def _now(config: Config, database: Database) -> datetime:
    """The machine's time; for a replay, which has a clock of its own, that of the newest event."""
    from retrainer.records import queries

    newest = database.read(queries.latest(config.experiment))[0]["at"] if config.clock == "events" else None
    return newest or datetime.now(UTC)


def _table(rows: Sequence[dict[str, Any]], columns: Sequence[str] | None) -> str:
    if not rows:
        return "nothing yet\n"
    names = list(columns or rows[0])
    lines = [names, *([_cell(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(names))]
    return "".join("  ".join(map(str.ljust, line, widths)).rstrip() + "\n" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):  # a checklist
        return f"{sum(bool(check['met']) for check in value)} of {len(value)}"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
