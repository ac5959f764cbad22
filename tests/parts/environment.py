"""Environments of their own for programs whose pins do not fit Gauntlet's, made by `.ci/install` from a lock."""

import os
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def folder(name: str) -> Path:
    return Path(os.environ.get("GAUNTLET_PARTS") or _ROOT / ".parts") / name


def python(name: str) -> Path:
    return folder(name) / "bin" / "python"


def missing(name: str) -> str | None:
    """Why the environment is not there, or None when it is, made from the present lock."""
    lock, made = _ROOT / "requirements" / f"{name}.txt", folder(name) / "lock.txt"
    if not made.is_file():
        return f"the environment {folder(name)} is not there (run .ci/install)"
    if made.read_text() != lock.read_text():
        return f"the environment {folder(name)} is of another requirements/{name}.txt (run .ci/install)"
    return None
