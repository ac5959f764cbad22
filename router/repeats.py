"""Repeated requests and outcomes: a request gets the first answer of its id; an outcome may contradict the label.

Memory is bounded: a filter takes two bytes for each of the latest one to two million events of a kind, and the log is
read only for ids that the filter may know. Requests with the same id wait for each other, so none runs twice at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Sequence

from gauntlet import events, keys
from router.recorder import Recorder

REMEMBERED = 2**20
"""Events of a kind whose ids are remembered at least, also after a restart: the latest million."""

_BITS = 2**24
"""Of a generation: 2 MB. Three positions of 24 bits are taken from an id's 64-bit hash."""


class RecentIds:
    """Which ids were used lately: a Bloom filter (Bloom 1970), to which one id in a hundred at most is falsely known.

    Two generations: when `limit` ids are in the newer one, the older is dropped. `bits` of one are a power of two,
    sixteen an id.
    """

    def __init__(self, limit: int = REMEMBERED, bits: int = _BITS) -> None:
        self._limit = limit
        self._mask = bits - 1
        self._older = bytearray(bits // 8)
        self._newer = bytearray(bits // 8)
        self._count = 0

    def __contains__(self, key: str) -> bool:
        code, mask = hash(key), self._mask
        one, two, three = code & mask, code >> 20 & mask, code >> 40 & mask
        for bits in (self._newer, self._older):
            if bits[one >> 3] >> (one & 7) & bits[two >> 3] >> (two & 7) & bits[three >> 3] >> (three & 7) & 1:
                return True
        return False

    def update(self, keys: Iterable[str]) -> None:
        for key in keys:
            code = hash(key)
            for shift in (0, 20, 40):
                place = code >> shift & self._mask
                self._newer[place >> 3] |= 1 << (place & 7)
            self._count += 1
            if self._count == self._limit:
                self._older, self._newer, self._count = self._newer, bytearray(len(self._newer)), 0


class Repeats:
    """Which ids were answered before, and what."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._recent = RecentIds()
        self._under_way: dict[str, asyncio.Future[None]] = {}

    async def load(self) -> None:
        """Remember the ids of the log, before the first request."""
        self._recent.update(await self._recorder.latest_ids(keys.PREDICTIONS, REMEMBERED))

    def remember(self, ids: Iterable[str]) -> None:
        """Predictions with these ids are on their way to the log."""
        self._recent.update(ids)

    @contextlib.asynccontextmanager
    async def claimed(self, ids: Collection[str]) -> AsyncIterator[dict[str, events.Prediction]]:
        """The earlier predictions of those `ids` that came before. Until the end no other request with one of them
        runs.

        A request claims all of its ids at once, so two never wait for each other.
        """
        while waiting := {self._under_way[key] for key in ids if key in self._under_way}:
            await asyncio.wait(waiting)
        done = asyncio.get_running_loop().create_future()
        self._under_way.update(dict.fromkeys(ids, done))
        try:
            known = [key for key in ids if key in self._recent]
            yield await self._recorder.recorded(known) if known else {}
        finally:
            for key in ids:
                del self._under_way[key]
            done.set_result(None)


class FirstLabels:
    """The labels of `outcomes.correction: first`, as far as this router took them in: which outcomes contradict one.

    An answer to the sender and nothing else: the evaluator decides which outcome is the label, by the log.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._recent = RecentIds()

    async def load(self) -> None:
        """Remember the ids of the log, before the first outcome."""
        self._recent.update(await self._recorder.latest_ids(keys.OUTCOMES, REMEMBERED))

    async def contradicted(self, outcomes: Sequence[events.Outcome]) -> dict[int, events.Outcome]:
        """The first outcome of each prediction that one of `outcomes` contradicts, by that one's index."""
        known = [outcome.id for outcome in outcomes if outcome.id in self._recent]
        firsts = await self._recorder.labels(known) if known else {}
        found = {}
        for index, outcome in enumerate(outcomes):
            first = firsts.setdefault(outcome.id, outcome)
            if first.value != outcome.value:
                found[index] = first
        return found

    def remember(self, outcomes: Sequence[events.Outcome]) -> None:
        """These are in the log."""
        self._recent.update(outcome.id for outcome in outcomes)
