"""The follower: keeps the router's table in step with the control record, and never serves from half a change.

A new version's models load and warm before the old table lets go; a model that can't serve leaves the old table in
force. The last record that worked is kept on the local disk, so that a router can start while the state store is away.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gauntlet import control, keys, status, telemetry
from gauntlet.clock import Clock
from gauntlet.config import Config
from gauntlet.errors import GauntletError, ModelUnusable, StateUnavailable
from gauntlet.files import atomic_write
from gauntlet.registry import Registry
from gauntlet.rollout import SHADOW_STAGE, Command, Control
from gauntlet.state import StateStore
from gauntlet.telemetry import Cause
from router import routing_table as tables
from router.model_worker import Arm
from router.routing_table import Table

_log = logging.getLogger("gauntlet.router")

_POLL_SECONDS = 5.0  # a change comes with a hint; this only bounds how long a lost hint can hide one
_RETRY_SECONDS = 0.5
_WARM_SECONDS = 30.0


class Follower:
    """Owns `table`; everybody else only reads it."""

    def __init__(
        self, config: Config, state: StateStore, registry: Registry, clock: Clock, replica: str, last_known: Path
    ) -> None:
        self._config = config
        self._state = state
        self._registry = registry
        self._clock = clock
        self._replica = replica
        self._last_known = last_known
        self._arms: dict[str, Arm] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.recent: deque[Mapping[str, Any]] = deque(maxlen=32)
        self.table: Table | None = None
        self.problem: str | None = None

    async def start(self) -> None:
        """Serve the record as it is. Raises `ModelUnusable` (its path and cause), or `StateUnavailable` without a
        copy."""
        try:
            version, record = await control.read(self._state, self._config.experiment)
        except StateUnavailable:
            version, record = self._last()
            if record is None:
                raise
            self.problem = "the state store does not answer; serving the last known record"
        if record is None:
            raise StateUnavailable(f"there is no control record for {self._config.experiment!r} yet")
        self._clock.observe(record.last.at if record.last else 0.0)
        await self._take(version, record)

    async def run(self) -> None:
        """Follow until cancelled. An outage of the state store leaves the table as it is."""
        while True:
            try:
                await self._state.wait(_POLL_SECONDS)
                version, record = await control.read(self._state, self._config.experiment)
                if self.table is None or record is None or version <= self.table.version:
                    if self.problem is not None and self.table is not None and version == self.table.version:
                        self.problem = None
                    continue
                await self._take(version, record)
            except GauntletError as error:
                if self.problem != str(error):
                    _log.warning("still serving version %s: %s", self.table and self.table.version, error)
                self.problem = str(error)
                await asyncio.sleep(_RETRY_SECONDS)

    def trip(self, table: Table) -> None:
        """The breaker opened: this replica is at 0 % already; ask the state machine to roll back for everybody."""
        _log.error("breaker opened for %s: %s", table.challenger and table.challenger.version, table.breaker)
        telemetry.BREAKER.labels(self._config.experiment, "challenger").set(1)
        self.roll_back("breaker", f"breaker: {table.breaker}", table.rollout)

    def roll_back(self, cause: Cause, reason: str, rollout: str | None) -> None:
        """Ask for a rollback in the background, again and again until the state store has taken it."""
        task = asyncio.create_task(
            self._roll_back(Command(name="rollback", actor=cause, reason=reason, rollout=rollout), cause)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _roll_back(self, command: Command, cause: Cause) -> None:
        since = time.monotonic()
        while True:
            try:
                await control.change(
                    self._state, self._config.experiment, command, self._clock.now(), cause=cause, since=since
                )
            except StateUnavailable as error:
                _log.warning("rollback of %s waits for the state store: %s", command.rollout, error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            except GauntletError as error:
                _log.info("rollback of %s was not needed: %s", command.rollout, error)
                return
            return

    async def _take(self, version: int, record: Control) -> None:
        """Load and warm what `record` needs, then swap the table in one step."""
        # Who has served before needs no rehearsal: on the way back one odd request must not stand in between.
        champion = await self._arm(record.champion, rehearse=False)
        challenger: Arm | None = None
        if record.rollout is not None:
            try:
                challenger = await self._arm(record.rollout.challenger)
                if (challenger.schema.task, challenger.schema.classes) != (
                    champion.schema.task,
                    champion.schema.classes,
                ):
                    raise ModelUnusable(f"{challenger.version} has other classes than champion {champion.version}")
            except ModelUnusable as error:
                _log.error("challenger %s can't serve: %s", record.rollout.challenger, error)
                challenger = None
                self.roll_back("preflight", f"the challenger can't serve: {error}", record.rollout.id)
        self.table = tables.build(
            version,
            record,
            champion,
            challenger,
            await self._watched(record),
            self._config.router.breaker,
            self._config.shadow.fraction,
            self.table,
        )
        self.problem = None
        self._remember(version, record)
        self._drop_unused()
        self._show(self.table)
        await self._acknowledge(self.table)
        _log.info(
            "serving version %d: champion %s, challenger %s at %.2f %%",
            version,
            champion.version,
            challenger.version if challenger else "none",
            100 * record.share,
        )

    async def _watched(self, record: Control) -> Arm | None:
        """The champion of before, for the comparison during a bake; without it the bake goes by the baseline alone."""
        if record.bake is None or record.previous is None:
            return None
        try:
            return await self._arm(record.previous, rehearse=False)
        except ModelUnusable as error:
            _log.warning("the previous champion can't be scored beside the new one: %s", error)
            return None

    async def _arm(self, version: str, *, rehearse: bool = True) -> Arm:
        if version in self._arms:
            return self._arms[version]
        predictor = await asyncio.to_thread(self._registry.load, version)
        arm = Arm(predictor)
        if (
            rehearse and self.recent
        ):  # recorded requests are the best rehearsal: the model must answer them validly before any user
            try:
                _, valid = await arm.predict(list(self.recent), _WARM_SECONDS)
            except Exception as error:
                arm.close()
                raise ModelUnusable(
                    f"{version} failed on recorded requests: {type(error).__name__}: {error}"
                ) from error
            if not valid.any():
                arm.close()
                raise ModelUnusable(f"{version} gave no valid answer to {len(valid)} recorded requests")
        self._arms[version] = arm
        return arm

    def _drop_unused(self) -> None:
        """Close arms that nobody may ask any more; the previous champion stays warm for the way back."""
        assert self.table is not None
        record = self.table.control
        wanted = {record.champion, record.previous, record.rollout and record.rollout.challenger}
        grace = 2 * self._config.router.deadline  # requests that hold the old table may still ask
        for version in set(self._arms) - wanted:
            asyncio.get_running_loop().call_later(grace, self._arms.pop(version).close)

    def _remember(self, version: int, record: Control) -> None:
        atomic_write(self._last_known, msgspec.json.encode((version, record)))

    def _last(self) -> tuple[int, Control | None]:
        try:
            return msgspec.json.decode(self._last_known.read_bytes(), type=tuple[int, Control])
        except (OSError, msgspec.MsgspecError):
            return 0, None

    def _show(self, table: Table) -> None:
        name = self._config.experiment
        rollout = table.control.rollout
        telemetry.SHARE.labels(name, "challenger").set(table.propensity)
        telemetry.SHARE.labels(name, "champion").set(1 - table.propensity)
        telemetry.STAGE.labels(name).set(SHADOW_STAGE - 1 if rollout is None else rollout.stage)
        telemetry.EPOCH.labels(name).set(table.version)
        telemetry.BREAKER.labels(name, "challenger").set(float(table.breaker.open))

    async def _acknowledge(self, table: Table) -> None:
        report = status.RouterProgress(
            at=self._clock.now(),
            replica=self._replica,
            version=table.version,
            allocation=table.control.allocation,
            champion=table.champion.version,
            challenger=table.challenger.version if table.challenger else None,
            breaker="open" if table.breaker.open else "closed",
            problem=self.problem,
        )
        try:
            await status.publish(self._state, keys.router_progress(self._config.experiment, self._replica), report)
        except GauntletError as error:
            _log.warning("could not acknowledge version %d: %s", table.version, error)
