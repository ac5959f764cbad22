"""Every number in docs/benchmarks.md, re-runnable: a module for each table, the README's figures by `__main__`."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import TypeVar

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


def progress(items: Iterable[T], name: str) -> Iterable[T]:
    """The items, with a bar on standard error where that is a terminal."""
    return tqdm(items, desc=name, leave=False, disable=None, file=sys.stderr)
