"""The command line: with `gauntlet/__init__`, the only code that knows every package."""

from gauntlet.cli.command import entry, main

__all__ = ["entry", "main"]
