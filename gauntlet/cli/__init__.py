"""The command line: the only place, with `gauntlet/__init__`, that knows every package."""

from __future__ import annotations

import sys

from gauntlet.cli.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
