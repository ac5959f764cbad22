"""Where a command's answer goes: files that are checked before the work, and standard output, which may close or fill.

A reader that has had enough (`| head`) ends a command quietly; a full disk ends it with a sentence.
"""

from __future__ import annotations

import argparse
import errno
import os
import select
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from gauntlet.errors import BadInput

CLOSED = 128 + 13
"""Exit code where standard output was closed early: what a shell shows of a program that a closed pipe ended."""
_PLOTS = (".png", ".svg", ".pdf")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def options(
    parser: argparse.ArgumentParser, *, html: bool = True, plot: str | None = None, json: Sequence[str] = ("--json",)
) -> None:
    """Give a command the options that say where its answer goes; `plot` says what is drawn, `json` names its option."""
    add = parser.add_argument_group("where the answer goes").add_argument
    add(*json, dest="json", metavar="FILE", help="write the answer as JSON; - is standard output, instead of the text")
    if html:
        add("--html", metavar="FILE", help="write the answer as one page with plots")
    if plot is not None:
        add("--plot", metavar="FILE", help=f"draw {plot}: .png, .svg or .pdf")


def check(arguments: argparse.Namespace, *inputs: str | None) -> None:
    """Refuse before the work what can't be written after it, or would overwrite an input. Raises BadInput."""
    taken = list(inputs)
    for option in ("json", "html", "plot"):
        path = getattr(arguments, option, None)
        if path is not None and (option, path) != ("json", "-"):
            _check_file(f"--{option} {path}", Path(path), taken)
        taken.append(path)
    plot = getattr(arguments, "plot", None)
    if plot and Path(plot).suffix.lower() not in _PLOTS:
        raise BadInput(f"--plot {plot}: the file's ending must be one of {', '.join(_PLOTS)}")


def check_file(option: str, path: str) -> None:
    """Refuse a file of an option that can't be written. Raises BadInput."""
    _check_file(f"--{option} {path}", Path(path), [])


def _check_file(asked: str, file: Path, taken: list[str | None]) -> None:
    if file.name == "-":
        raise BadInput(f"{asked}: give the name of a file")
    if not file.parent.is_dir():
        raise BadInput(f"{asked}: there is no folder {file.parent}")
    if file.is_dir():
        raise BadInput(f"{asked}: this is a folder")
    if any(other is not None and Path(other).resolve() == file.resolve() for other in taken):
        raise BadInput(f"{asked}: this file is already an input or another output")
    if file.exists() and not file.is_file():  # a device or a pipe, which opening alone may change
        return
    new = not file.exists()
    try:
        file.open("ab").close()
        if new:
            file.unlink()
    except OSError as error:
        raise BadInput(f"{asked}: {error.strerror or error}") from error


def progress(total: int | None, **form: Any) -> Any:
    """A progress bar on standard error, where that is a terminal; `total` where it is known."""
    from tqdm import tqdm

    return tqdm(total=total, disable=None, leave=False, **form)


def reading(rows: int | None) -> Any:
    """A progress bar of the rows read."""
    return progress(rows, unit=" rows", unit_scale=True, mininterval=0.5)


def answer(arguments: argparse.Namespace, report: Any, title: str = "Experiment", **form: Any) -> None:
    """Write the page and the plots that were asked for, and print the text, or the JSON for `--json -`.

    title: of the page. form: the JSON's.
    """
    import gauntlet
    from evaluator.offline.render import as_json

    if getattr(arguments, "html", None):
        write("html", arguments.html, gauntlet.to_html(report, title))
    if getattr(arguments, "plot", None):
        from evaluator.offline.render import plan

        kind = Path(arguments.plot).suffix.lower().lstrip(".")
        write("plot", arguments.plot, plan.picture(report, kind))
    json = None if arguments.json is None else as_json(report, **form) + "\n"
    if json is not None and arguments.json != "-":
        write("json", arguments.json, json)
    print(json if arguments.json == "-" else gauntlet.to_text(report), end="")


def write(option: str, path: str, content: str | bytes) -> None:
    """Write a file in one step: a full disk leaves neither half an answer nor the loss of an earlier one.

    Raises BadInput, naming the option, for a file that can't be written.
    """
    from gauntlet.files import atomic_write

    file, data = Path(path).resolve(), content.encode("utf-8") if isinstance(content, str) else content
    try:
        try:
            kept = file.stat().st_mode if file.exists() else stat.S_IFREG | 0o666
            if stat.S_ISREG(kept):
                atomic_write(file, data, mode=stat.S_IMODE(kept))
                return
        except PermissionError:  # a folder that takes no new file, as where a container is given one file
            pass
        file.write_bytes(data)
    except OSError as error:
        raise BadInput(f"--{option} {path}: {error.strerror or error}") from error


def guarded(command: Callable[[], int]) -> int:
    """The command's exit code, or `CLOSED` where the reader went away, or 2 where the disk is full.

    Everything is flushed here, so that nothing fails when the interpreter ends.
    """
    try:
        try:
            return command()
        finally:
            sys.stdout.flush()
    except OSError as error:
        closed = [_let_go(stream) for stream in (sys.stdout, sys.stderr)]
        if isinstance(error, BrokenPipeError) and any(closed):
            return CLOSED
        if error.errno not in _FULL:
            raise
        with suppress(OSError):
            # Of a copy the target is full, and the source is named first.
            where = error.filename2 or error.filename or "standard output or a temporary file"
            print(f"gauntlet: {where}: {error.strerror}", file=sys.stderr)
        return 2


def _let_go(stream: TextIO) -> bool:
    """True if the reader of a standard stream has gone.

    The stream is then redirected to the null device, as it is where it can't be written, so that the interpreter's
    shutdown doesn't raise once more.
    """
    try:
        closed = _unread(stream.fileno())
        try:
            stream.flush()
        except OSError:
            pass
        else:
            if not closed:
                return False
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):  # no stream of the system's
        return False
    return closed


def _unread(file: int) -> bool:
    """True if the file is a pipe whose reader has gone."""
    poll = select.poll()
    poll.register(file, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
