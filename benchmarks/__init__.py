"""Every number in docs/benchmarks.md, re-runnable: a module for each table, the README's figures by `__main__`."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def main(run: Callable[..., Iterable[str]]) -> None:
    """Print the lines of `run` as they come; its parameters, all with defaults, are the options of the command."""
    description = sys.modules[run.__module__].__doc__
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, parameter in inspect.signature(run).parameters.items():
        option, default = f"--{name.replace('_', '-')}", parameter.default
        if default is False:
            parser.add_argument(option, action="store_true")
        elif isinstance(default, tuple):  # choices, the first of which is the default
            parser.add_argument(option, choices=default, default=default[0])
        else:
            parser.add_argument(option, type=type(default), default=default, help=f"default {default!r}")
    for line in run(**vars(parser.parse_args())):
        print(line, flush=True)


def row(*cells: object) -> str:
    """A row of a markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def header(*titles: str) -> str:
    """The head of a markdown table."""
    return f"{row(*titles)}\n|{'---|' * len(titles)}"


@dataclass(frozen=True, slots=True)
class CommandRun:
    """A command's answer in JSON, and what it took: seconds by the wall and by processors, and its peak memory."""

    answer: Any
    wall: float
    processor: float
    peak_mib: float


def run_command(*arguments: str) -> CommandRun:
    """Run `gauntlet` with these arguments, which have it print JSON, as a process of its own: start and imports count.

    Raises RuntimeError where it fails.
    """
    begun = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", "gauntlet.cli", *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begun
    if process.returncode:
        raise RuntimeError(f"gauntlet {arguments[0]} ended with {process.returncode}")
    return CommandRun(json.loads(output), wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def progress(items: Iterable[T], name: str) -> Iterable[T]:
    """The items, with a bar on standard error where that is a terminal."""
    return tqdm(items, desc=name, leave=False, disable=None, file=sys.stderr)
