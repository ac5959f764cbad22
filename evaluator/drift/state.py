"""State of a stream: snapshots as JSON-able values, and sums over the last blocks of rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, ClassVar, TypeVar, get_args

import msgspec
import numpy as np
import numpy.typing as npt

Record = TypeVar("Record")


def to_builtins(record: Any) -> Any:
    """A dataclass as JSON-able values; arrays become lists."""
    return msgspec.to_builtins(record, enc_hook=lambda array: array.tolist())


def from_builtins(raw: Any, kind: type[Record]) -> Record:
    """The inverse of `to_builtins`, also after JSON. Raises msgspec.ValidationError for other values."""

    def array(kind: Any, values: Any) -> Any:
        return np.array(values, dtype=get_args(get_args(kind)[1])[0])

    return msgspec.convert(raw, kind, dec_hook=array)


class Stateful:
    """An object with snapshots. `values` are the attributes to keep, each with its type (`list` for a deque); `parts`
    those that are `Stateful` themselves, lists of such, or None. A snapshot has their names without underscores."""

    values: ClassVar[Mapping[str, Any]] = {}
    parts: ClassVar[tuple[str, ...]] = ()

    def snapshot(self) -> Any:
        """The whole state as JSON-able values."""
        kept = {name: getattr(self, name) for name in (*self.parts, *self.values)}
        return {name.lstrip("_"): _snapshot(value) for name, value in kept.items()}

    def restore(self, raw: Any) -> None:
        """Replace the state by a `snapshot`."""
        for name, kind in self.values.items():
            value, found = getattr(self, name), from_builtins(raw[name.lstrip("_")], kind)
            setattr(self, name, deque(found, value.maxlen) if isinstance(value, deque) else found)
        for name in self.parts:
            part, saved = getattr(self, name), raw[name.lstrip("_")]
            for own, state in zip(part, saved, strict=True) if isinstance(part, list) else ((part, saved),):
                if own is not None:
                    own.restore(state)


def _snapshot(value: Any) -> Any:
    if isinstance(value, Stateful):
        return value.snapshot()
    if isinstance(value, list | deque):
        return [_snapshot(each) for each in value]
    return to_builtins(sorted(value) if isinstance(value, frozenset) else value)


class RollingSums(Stateful):
    """Arrays of the last blocks of a stream, which add up to those of windows of whole blocks."""

    def __init__(self, most: int) -> None:
        self._blocks: deque[npt.NDArray[Any]] = deque(maxlen=most)

    def __len__(self) -> int:
        return len(self._blocks)

    def push(self, block: npt.NDArray[Any]) -> None:
        """Take in the next block."""
        self._blocks.append(block)

    def window(self, count: int) -> npt.NDArray[Any] | None:
        """Sum of the last `count` blocks, or None while there are fewer."""
        if count > len(self._blocks):
            return None
        return np.asarray(np.sum(list(islice(self._blocks, len(self._blocks) - count, None)), axis=0))

    def suffix_sums(self) -> npt.NDArray[Any]:
        """Sums of the last one, two, … blocks, shape (blocks, …)."""
        if not self._blocks:
            return np.empty(0)
        return np.cumsum(np.concatenate(self._blocks).reshape(len(self._blocks), -1)[::-1], axis=0)

    def keep(self, count: int) -> None:
        """Forget all but the last `count` blocks."""
        while len(self._blocks) > count:
            self._blocks.popleft()

    def snapshot(self) -> list[Any]:
        return [block.tolist() for block in self._blocks]

    def restore(self, raw: Any) -> None:
        self._blocks = deque(map(np.array, raw), self._blocks.maxlen)
