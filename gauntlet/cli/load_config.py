"""The configuration that a command was given; a `module:function` in it may stand in a module beside it."""

from __future__ import annotations

import sys
from pathlib import Path

from gauntlet.config import Config
from gauntlet.config import load as configs


def load(path: str | Path) -> Config:
    """Read and check the file at `path`. Raises `ConfigError`.

    Its folder can be imported from afterwards, after everything that is installed.
    """
    config = configs.load(path)
    folder = str(Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    return config
