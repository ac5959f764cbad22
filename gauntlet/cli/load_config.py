"""Loading the configuration that a command names; its folder becomes importable, for a `module:function` in it."""

from __future__ import annotations

import sys
from pathlib import Path

from gauntlet.config import Config
from gauntlet.config import load as configs


def load(path: str | Path) -> Config:
    """Read and check the file at `path`. Raises `ConfigError`.

    Its folder goes to the end of `sys.path`, so that no module in it hides an installed one.
    """
    config = configs.load(path)
    folder = str(Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    return config
