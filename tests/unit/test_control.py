"""The control record under contention: who wins a race, and what is counted and kept."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from builders.samples import sample

from gauntlet import control, rollout, telemetry
from gauntlet.errors import Conflict, TransitionRefused
from gauntlet.rollout import Command, Stage
from gauntlet.state import Versioned
from gauntlet.state.local import LocalState

FRESH = rollout.begin("e", "v1", 0.0)
SHADOW = Stage(share=0.0, min_seconds=60)
RAMP = tuple(Stage(share=share, min_seconds=60) for share in (0.01, 0.05, 0.1))


def order(name: str, **given: object) -> Command:
    if name == "challenge":
        given = {"version": "v2", "shadow": SHADOW, "stages": RAMP, **given}
    return Command(name=name, actor="ann", reason="because", **given)  # type: ignore[arg-type]


class Racing:
    """A store in which somebody else gets through before each of the first `races` puts."""

    def __init__(self, inner: LocalState, other: LocalState, commands: list[Command]) -> None:
        self._inner, self._other, self._commands = inner, other, commands

    async def get(self, key: str) -> Versioned:
        return await self._inner.get(key)

    async def put(self, key: str, value: bytes, expected: int, *, keep: bool = False) -> int:
        if self._commands:
            await control.change(self._other, "e", self._commands.pop(0), 15.0)
        return await self._inner.put(key, value, expected, keep=keep)


class TestContention:
    @pytest.fixture
    async def stores(self, tmp_path: Path):  # type: ignore[no-untyped-def]
        stores = [LocalState(tmp_path / "s.db") for _ in range(2)]
        await control.create(stores[0], FRESH)
        yield stores
        for store in stores:
            await store.close()

    async def test_the_first_record_is_made_once(self, stores: list[LocalState]) -> None:
        version, found = await control.create(stores[1], rollout.begin("e", "v9", 1.0))
        assert (version, found) == (1, FRESH)
        assert await control.read(stores[1], "other") == (0, None)
        with pytest.raises(TransitionRefused, match="no experiment") as caught:
            await control.change(stores[0], "other", order("rollback"), 1.0)
        assert caught.value.code == "unknown_experiment"

    async def test_a_lost_race_decides_anew(self, stores: list[LocalState]) -> None:
        await control.change(stores[0], "e", order("challenge"), 10.0)
        racing = Racing(stores[0], stores[1], [order("rollback")])
        with pytest.raises(TransitionRefused) as caught:  # it was decided in shadow, and the rollback came first
            await control.change(racing, "e", order("advance", rollout="e-r0001", from_stage=-1), 11.0)  # type: ignore[arg-type]
        assert caught.value.code == "no_rollout"
        version, record = await control.read(stores[0], "e")
        assert record is not None
        assert (version, record.share, record.rollouts) == (3, 0.0, ())

    async def test_a_lost_race_to_the_same_effect_changes_nothing(self, stores: list[LocalState]) -> None:
        await control.change(stores[0], "e", order("challenge"), 10.0)
        racing = Racing(stores[0], stores[1], [order("rollback")])
        version, record, changed = await control.change(racing, "e", order("rollback"), 11.0)  # type: ignore[arg-type]
        assert (version, record.rollouts, changed) == (3, (), False)

    async def test_each_change_in_force_is_counted_once_and_a_rollback_with_its_cause(
        self, stores: list[LocalState]
    ) -> None:
        def counts() -> tuple[float | None, ...]:
            return (
                sample("gauntlet_decisions_total", experiment="e", decision="rollback"),
                sample("gauntlet_rollback_total", experiment="e", cause="breaker"),
                sample("gauntlet_time_to_rollback_seconds_count", experiment="e"),
            )

        telemetry.initialise("e", "router")
        before = counts()
        await control.change(stores[0], "e", order("challenge"), 10.0)
        assert counts() == before
        racing = Racing(stores[0], stores[1], [order("ramp", stage=1)])
        for _ in range(2):  # the second changes nothing
            await control.change(racing, "e", order("rollback"), 11.0, cause="breaker")  # type: ignore[arg-type]
        assert counts() == tuple(count + 1 for count in before if count is not None)

    async def test_a_rollback_wins_against_a_crowd_of_steps(self, stores: list[LocalState]) -> None:
        await control.change(stores[0], "e", order("challenge"), 10.0)
        crowd = [order("ramp", stage=n % 3) for n in range(10)]
        racing = Racing(stores[0], stores[1], crowd)
        _, record, changed = await control.change(racing, "e", order("rollback"), 11.0)  # type: ignore[arg-type]
        assert (record.share, changed, crowd) == (0.0, True, [])

    async def test_races_without_an_end_are_a_conflict(self, stores: list[LocalState]) -> None:
        await control.change(stores[0], "e", order("challenge"), 10.0)
        racing = Racing(stores[0], stores[1], [order("ramp", stage=n % 3) for n in range(100)])
        with pytest.raises(Conflict) as caught:
            await control.change(racing, "e", order("rollback"), 11.0)  # type: ignore[arg-type]
        assert caught.value.retriable

    async def test_interleaved_changes_are_all_in_the_history_once(self, stores: list[LocalState]) -> None:
        await control.change(stores[0], "e", order("challenge"), 10.0)
        done = await asyncio.gather(
            *(control.change(stores[n % 2], "e", order("ramp", stage=n % 3), 20.0 + n) for n in range(12))
        )
        kept = await control.history(stores[0], "e")
        assert [version for version, _ in kept] == list(range(1, len(kept) + 1))
        changed = [version for version, _, new in done if new]
        assert sorted(changed) == list(range(3, len(kept) + 1))
        for (_, before), (_, record) in itertools.pairwise(kept):
            assert record.allocation == before.allocation + 1
        assert [v for v, _ in await control.history(stores[1], "e", after=2)] == list(range(3, len(kept) + 1))
