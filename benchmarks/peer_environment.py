"""Environments for packages whose pins don't fit Gauntlet's: made once from `benchmarks/NAME.txt`, in `.parts/NAME`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def python(name: str) -> Path:
    """The Python of that environment. pandas 1, which the peers need, has wheels for Python 3.11 at most."""
    pins, folder = HERE / f"{name}.txt", HERE.parent / ".parts" / name
    made, note = folder / "bin" / "python", folder / "installed.txt"
    if not note.exists() or note.read_text() != pins.read_text():
        base = sys.executable if sys.version_info[:2] == (3, 11) else "python3.11"
        print(f"making the environment {name} (once)", file=sys.stderr)
        subprocess.run([base, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(made), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--requirement", str(pins)], check=True)
        note.write_text(pins.read_text())
    return made
