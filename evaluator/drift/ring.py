"""The last blocks of a stream as vectors of sums: windows of whole blocks are their sums.

Memory is bounded by the longest window; whole numbers add exactly, other sums in the order of the blocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluator.drift.grid import Floats


class Ring:
    """Vectors of `width` numbers, the newest `capacity` of them. Whole numbers are exact up to 2^53."""

    def __init__(self, capacity: int, width: int) -> None:
        self._blocks = np.zeros((0, width))
        self._capacity = capacity

    def __len__(self) -> int:
        return len(self._blocks)

    def push(self, block: Floats) -> None:
        """Take in the next block's vector, shape (width,)."""
        self._blocks = np.concatenate([self._blocks, block[None]])[-self._capacity :]

    def total(self, blocks: int) -> Floats | None:
        """The sum of the last `blocks` vectors, or None while there are fewer."""
        if blocks > len(self._blocks):
            return None
        total: Floats = self._blocks[len(self._blocks) - blocks :].sum(axis=0)
        return total

    def keep(self, blocks: int) -> None:
        """Drop all but the newest `blocks` vectors."""
        self._blocks = self._blocks[max(0, len(self._blocks) - blocks) :]

    def snapshot(self) -> list[list[float]]:
        """The whole state as JSON-able values."""
        return [list(block) for block in self._blocks.tolist()]

    def restore(self, raw: list[Any]) -> None:
        """Replace the state by a `snapshot`."""
        self._blocks = np.array(raw, dtype=np.float64).reshape(-1, self._blocks.shape[1])
