"""The folder of a demo's run: emptied only where a demo has made it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from gauntlet import files
from gauntlet.errors import BadInput

MARKER = ".gauntlet-demo"
"""The file that shows that a demo has made the folder."""


@contextlib.contextmanager
def fresh(folder: Path) -> Iterator[None]:
    """`folder`, new or of a demo before, emptied and locked: the lock dies with this process, so a killed demo doesn't
    block the next.

    Raises `BadInput` for anything else that is there, which stays as it is, and `InUse`.
    """
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = files.lock(folder.parent / f".{folder.name}.lock", f"demo of {folder.name}")
    try:
        _refuse_foreign(folder)  # it may have come meanwhile
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        (folder / MARKER).write_text("`gauntlet demo` made this folder; the next run in it deletes everything here\n")
        yield
    finally:
        lock.release()


def _refuse_foreign(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise BadInput(f"--run {folder}: this is not a folder; name a new or empty one", code="bad_folder")
    if folder.is_dir() and not (folder / MARKER).is_file() and any(folder.iterdir()):
        raise BadInput(
            f"--run {folder}: a run deletes what is in its folder, and this one is not empty and was not made by a "
            f"demo ({MARKER} is missing); name a new or empty folder, or empty it yourself",
            code="bad_folder",
        )
