"""Control follower: keeps the routing table in step with the control record, and never serves half of a change.

A new version's models load and are rehearsed before the old table is replaced; a model that can't serve leaves it in
force. The last record that worked is kept on the local disk: a router starts from it while the state store is away,
and puts it back where the store has lost it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from gauntlet import control, control_copy, status, telemetry, traffic_health
from gauntlet.clock import Clock
from gauntlet.config import Config
from gauntlet.errors import DamagedFile, GauntletError, ModelUnusable, StateUnavailable
from gauntlet.faults import OUTAGES, Faults
from gauntlet.registry import ModelStore
from gauntlet.rollout import Command, Control, Rollout
from gauntlet.state import StateStore
from gauntlet.status import Problems, ServedChallenger
from gauntlet.structured_logging import get_logger
from gauntlet.telemetry import RollbackCause
from gauntlet.types import Severity
from router.breaker import CircuitBreaker
from router.model_worker import ModelWorker
from router.replicas import ReplicaReports
from router.routing_table import Challenger, RoutingTable
from router.traffic_counts import ArrivalCounter

_log = get_logger("gauntlet.router")

_POLL_SECONDS = 5.0  # a change comes with a notification; this bounds the delay where that gets lost
_RETRY_SECONDS = 0.5
_REHEARSAL_SECONDS = 30.0
_REHEARSAL_ROWS = 32
_NOT_FOLLOWED = "control_not_followed"


class ControlFollower:
    """Owns the routing table and the circuit breaker; the request path reads the one and records into the other."""

    def __init__(
        self,
        config: Config,
        state: StateStore,
        registry: ModelStore,
        clock: Clock,
        replica: str,
        arrivals: ArrivalCounter | None = None,
    ) -> None:
        """`arrivals`: told with what this replica reports of itself."""
        self._config = config
        self._state = state
        self._registry = registry
        self._clock = clock
        self._arrivals = arrivals
        self.replica = replica
        self._models: dict[str, ModelWorker] = {}
        self._unusable: frozenset[str] = frozenset()  # running rollouts that were refused; their rollback is asked for
        self._tasks: set[asyncio.Task[None]] = set()
        self.replicas = ReplicaReports(state, config.experiment, replica)
        self.breaker = CircuitBreaker(config.router.breaker, self._breaker_opened)
        self.recent_rows: deque[Mapping[str, Any]] = deque(maxlen=_REHEARSAL_ROWS)
        self.table: RoutingTable | None = None
        self.problems = Problems(replica)
        self._faults = Faults(self.problems, _log)

    async def start(self) -> None:
        """Build the first table. Raises `ModelUnusable`, or `StateUnavailable` where there is no local copy either."""
        unavailable = None
        try:
            version, record = await control.read(self._state, self._config.experiment)
        except StateUnavailable as error:
            version, record = control_copy.read(self._config)
            if record is None:
                raise
            unavailable = error
        if record is None:
            raise StateUnavailable(f"experiment {self._config.experiment!r} has no control record yet")
        self._clock.observe(record.last.at if record.last else 0.0)
        await self._take(version, record)
        if unavailable is not None:
            self._report(unavailable)

    async def run(self) -> None:
        """Follow until cancelled. An outage of the state store leaves the table as it is."""
        while True:
            try:
                await self._state.wait(_POLL_SECONDS)
                version, record = await control.read(self._state, self._config.experiment)
                if self.table is not None and version < self.table.version:
                    await self._put_back(self.table)
                elif self.table is not None and version == self.table.version:
                    self.problems.clear(_NOT_FOLLOWED)
                elif record is not None:
                    await self._take(version, record)
                if self.table is not None and self.replicas.due:
                    await self._acknowledge(self.table)
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would follow
                self._report(error)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _put_back(self, table: RoutingTable) -> None:
        """The state store has lost what this replica serves, by a flush or an old backup."""
        if await control.restore(self._state, table.version, table.control):
            _log.error(
                "control_restored",
                version=table.version,
                reason="the state store had lost the control record",
                next="serving on; its history begins anew",
            )

    def _report(self, error: Exception) -> None:
        """The control record can't be read or followed: say so once, for as long as it lasts."""
        what, remedy = "the control record can't be followed", "see the reason; it is tried again by itself"
        if isinstance(error, StateUnavailable):
            what, remedy = "the state store does not answer", "bring it back (`state` in the configuration)"
        text = f"{what}, and the last known control record stays in force: {error}"
        if self.problems.report(_NOT_FOLLOWED, Severity.HIGH, text, remedy):
            unexpected = None if isinstance(error, OUTAGES) else error
            after = "serving the present table; trying again"
            _log.warning(_NOT_FOLLOWED, error=error, next=after, exc_info=unexpected)

    @property
    def challengers(self) -> list[ServedChallenger]:
        """The challengers of the table in force, oldest first."""
        return [
            ServedChallenger(
                rollout=each.id,
                version=each.model.version,
                share=each.share,
                stage=each.rollout.stage,
                breaker="open" if self.breaker.is_open(each.id) else "closed",
            )
            for each in (self.table.challengers if self.table else ())
        ]

    def _breaker_opened(self, rollout: str, failures: str) -> None:
        """This replica is at 0 % already; ask the state machine to roll back on every replica."""
        telemetry.BREAKER.labels(self._config.experiment, rollout).set(1)
        _log.error("breaker_opened", rollout=rollout, failures=failures, next="champion answers; rollback requested")
        self._roll_back("breaker", failures, rollout)

    def _roll_back(self, cause: RollbackCause, reason: str, rollout: str) -> None:
        """Request a rollback in the background, until the state store has taken it."""
        command = Command(name="rollback", actor=cause, reason=reason, rollout=rollout)
        task = asyncio.create_task(self._command(command, cause))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _command(self, command: Command, cause: RollbackCause) -> None:
        began, name = time.monotonic(), self._config.experiment
        while True:
            try:
                await control.change(self._state, name, command, self._clock.now(), cause=cause, since=began)
                return
            except StateUnavailable as error:
                _log.warning("rollback_delayed", rollout=command.rollout, error=error, next="trying again")
                await asyncio.sleep(_RETRY_SECONDS)
            except GauntletError as error:
                _log.info("rollback_not_needed", rollout=command.rollout, reason=error, next="nothing to do")
                return

    async def _take(self, version: int, record: Control) -> None:
        """Load and rehearse the models that `record` names, then replace the table in one step."""
        # A version that has served before needs no rehearsal: on the way back one odd request must not stop it.
        champion = await self._model(record.champion, rehearse=False)
        loaded = await asyncio.gather(*(self._challenger(record, each, champion) for each in record.rollouts))
        challengers = tuple(each for each in loaded if each is not None)
        self._unusable = frozenset(r.id for r in record.rollouts) - {each.id for each in challengers}
        previous = await self._previous(record)
        self.breaker.follow(rollout.id for rollout in record.rollouts)
        fraction, after_bake = self._config.shadow.fraction, self._config.worth.fraction
        self.table = RoutingTable(version, record, champion, challengers, previous, fraction, after_bake)
        self.problems.clear(_NOT_FOLLOWED)
        with self._faults.held("control_not_copied", "serving all the same", Severity.MEDIUM):
            control_copy.write(self._config, version, record)
        self._drop_unused(record)
        self._show(self.table)
        await self._acknowledge(self.table)
        arms = {"champion": champion.version, "challengers": [each.model.version for each in challengers]}
        _log.info("routing_changed", version=version, **arms, share=self.table.share, next="serving")

    async def _challenger(self, record: Control, rollout: Rollout, champion: ModelWorker) -> Challenger | None:
        """The loaded challenger; None where it can't serve, which requests the rollback of this rollout."""
        if rollout.id in self._unusable:
            return None
        try:
            model = await self._model(rollout.challenger)
            if model.schema.task != champion.schema.task or model.schema.classes != champion.schema.classes:
                raise ModelUnusable(f"{model.version} has other classes than champion {champion.version}")
        except (DamagedFile, ModelUnusable) as error:
            _log.error("challenger_unusable", rollout=rollout.id, error=error, next="rollback requested")
            self._roll_back("preflight", f"the challenger can't serve: {error}", rollout.id)
            return None
        return Challenger(rollout, model, record)

    async def _previous(self, record: Control) -> ModelWorker | None:
        """The previous champion while it is still compared; without it the bake goes by the new one's own metric."""
        if record.promotion is None or record.previous is None:
            return None
        try:
            return await self._model(record.previous, rehearse=False)
        except (DamagedFile, ModelUnusable) as error:
            _log.warning("previous_champion_unusable", error=error, next="the watch goes on without paired scores")
            return None

    async def _model(self, version: str, *, rehearse: bool = True) -> ModelWorker:
        """The loaded model. `rehearse`: it must first answer recent requests validly. Raises `ModelUnusable`."""
        if version in self._models:
            return self._models[version]
        model = ModelWorker(await asyncio.to_thread(self._registry.load, version))
        if rehearse and self.recent_rows:
            try:
                _, valid = await model.predict(list(self.recent_rows), _REHEARSAL_SECONDS)
            except Exception as error:
                model.close()
                raise ModelUnusable(f"{version} failed on recent requests: {type(error).__name__}: {error}") from error
            if not valid.any():
                model.close()
                raise ModelUnusable(f"{version} gave no valid answer to {len(valid)} recent requests")
        self._models[version] = model
        return model

    def _drop_unused(self, record: Control) -> None:
        """Close models that no request can ask any more; the previous champion stays warm for a rollback."""
        wanted = {record.champion, record.previous, *(rollout.challenger for rollout in record.rollouts)}
        grace = 2 * self._config.router.deadline  # requests that hold the old table may still ask
        for version in set(self._models) - wanted:
            asyncio.get_running_loop().call_later(grace, self._models.pop(version).close)

    def _show(self, table: RoutingTable) -> None:
        name, rollouts = self._config.experiment, table.control.rollouts
        telemetry.SHARE.labels(name, "challenger").set(table.share)
        telemetry.SHARE.labels(name, "champion").set(1 - table.share)
        telemetry.EPOCH.labels(name).set(table.version)
        for rollout in rollouts:
            telemetry.STAGE.labels(name, rollout.id).set(rollout.stage)
            telemetry.BREAKER.labels(name, rollout.id).set(float(self.breaker.is_open(rollout.id)))
        telemetry.forget(name, "router", {rollout.id for rollout in rollouts})

    async def _acknowledge(self, table: RoutingTable) -> None:
        report = status.RouterProgress(
            at=self._clock.now(),
            seen=time.time(),
            replica=self.replica,
            version=table.version,
            allocation=table.control.allocation,
            champion=table.champion.version,
            challengers=self.challengers,
            problems=self.problems.open,
            arrivals=self._arrivals.report() if self._arrivals else None,
        )
        await self.replicas.publish(report)
        await self._show_traffic()

    async def _show_traffic(self) -> None:
        """What the status says of the traffic, for those who read metrics only."""
        try:
            heard, _ = await self.replicas.read()
        except GauntletError:
            return  # the status says what is wrong
        arrived = [one.arrivals for one in heard if one.arrivals is not None]
        found = {problem.code: problem.severity.rank for problem in traffic_health.findings(arrived, self._config)}
        for code in traffic_health.CODES:
            telemetry.TRAFFIC_PROBLEM.labels(self._config.experiment, code).set(found.get(code, 0))
