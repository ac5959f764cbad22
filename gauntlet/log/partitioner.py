"""Kafka's default partitioner: MurmurHash2 of the key, vectorised over keys. Equal to the Java client's; pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SEED = 0x9747B28C
_M = np.uint32(0x5BD1E995)
_R = np.uint32(24)


def partitions(keys: Sequence[bytes], count: int) -> list[int]:
    """The partition of each key among `count`, as in Kafka's `Utils.toPositive(Utils.murmur2(key)) % count`."""
    chosen = np.empty(len(keys), dtype=np.int64)
    by_length: dict[int, list[int]] = {}
    for index, key in enumerate(keys):
        by_length.setdefault(len(key), []).append(index)
    for length, indices in by_length.items():
        block = np.frombuffer(b"".join([keys[i] for i in indices]), dtype=np.uint8).reshape(len(indices), length)
        chosen[indices] = (_hash(block) & np.uint32(0x7FFFFFFF)) % np.uint32(count)
    return [int(partition) for partition in chosen]


def _hash(keys: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """MurmurHash2 (Appleby 2008) of each row, 32 bits, with Kafka's seed; uint32 arithmetic wraps as it must."""
    rows, length = keys.shape
    whole = length // 4 * 4
    words = np.ascontiguousarray(keys[:, :whole]).view("<u4").astype(np.uint32)
    h = np.full(rows, _SEED ^ length, dtype=np.uint32)
    for k in words.T:
        k = k * _M
        k ^= k >> _R
        h = h * _M ^ k * _M
    if whole < length:
        for place in range(whole, length):
            h ^= keys[:, place].astype(np.uint32) << np.uint32(8 * (place - whole))
        h *= _M
    h ^= h >> np.uint32(13)
    h *= _M
    h ^= h >> np.uint32(15)
    return h
