"""Several routers on one state store: each reports under a name of its own, and each follows the one control record."""

from __future__ import annotations

import shutil
import socket
import time
import uuid
from pathlib import Path

import msgspec
import parts
from builders import small_experiment

from gauntlet import adapters, keys
from gauntlet.state.local import LocalState
from gauntlet.status import RouterProgress
from router.app import replica_name
from router.replicas import FORGOTTEN_SECONDS, SILENT_SECONDS, ReplicaReports

URL = "/v1/experiments/test"


async def test_each_replica_reports_for_itself(tmp_path: Path, redis_server: parts.Redis) -> None:
    state = f"{redis_server.url}?prefix=replicas-{uuid.uuid4().hex}:"
    router = {"deadline": "20s", "challenger_timeout": "5s"}
    ports = [parts.free_port(), parts.free_port()]
    one, two = (
        small_experiment.load(small_experiment.write(tmp_path / name, state=state, router={**router, "port": port}))
        for name, port in zip(("one", "two"), ports, strict=True)
    )
    async with small_experiment.running(one) as first:
        await small_experiment.challenge(one, first, small_experiment.classifier(2))
        shutil.copytree(Path(one.data) / "registry", Path(two.data) / "registry")
        async with small_experiment.running(two) as second:
            assert (await first.post(f"{URL}/promote", json={"reason": "test"})).status_code == 200
            for client in (first, second):
                await small_experiment.serving(client, URL, champion="v0002")
            names = [f"{socket.gethostname()}:{port}" for port in ports]
            store = adapters.state(one)
            try:
                reports = [keys.router_progress("test", name) for name in names]
                assert await store.keys(keys.router_progress("test", "")) == sorted(reports)
            finally:
                await store.close()

            async def both() -> bool:
                routers = (await first.get(URL)).json()["routers"]
                found = {each["replica"]: each["champion"] for each in routers}
                return found == dict.fromkeys(names, "v0002")

            await small_experiment.until(both)
        assert [each["replica"] for each in (await first.get(URL)).json()["routers"]] == names[:1]


async def test_a_replica_that_was_killed_is_silent_and_then_forgotten(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    store = adapters.state(config)
    async with small_experiment.running(config) as client:
        (own,) = (await client.get(URL)).json()["routers"]
        for name, ago in (("silent", SILENT_SECONDS + 9.0), ("gone", FORGOTTEN_SECONDS + 9.0)):
            report = RouterProgress(
                at=0.0, replica=name, version=1, allocation=0, champion="v0001", seen=time.time() - ago
            )
            await store.put(keys.router_progress("test", name), msgspec.json.encode(report), 0)
        found = (await client.get(URL)).json()
        assert found["routers"] == [own]
        (told,) = [each for each in found["problems"] if each["code"] == "router_silent"]
        assert told["source"] == "silent"
        assert told["text"].startswith("router silent is not heard of any more")
        left = await store.keys(keys.router_progress("test", ""))
        assert keys.router_progress("test", "gone") not in left
        assert len(left) == 2
    assert await store.keys(keys.router_progress("test", "")) == [keys.router_progress("test", "silent")]
    await store.close()


async def test_a_report_is_written_again_while_the_replica_runs(tmp_path: Path) -> None:
    store = LocalState(tmp_path / "state.db")
    reports, key = ReplicaReports(store, "test", "one"), keys.router_progress("test", "one")
    assert reports.due
    one = RouterProgress(at=0.0, replica="one", version=1, allocation=0, champion="v0001", seen=time.time())
    await reports.publish(one)
    assert not reports.due
    assert await reports.read() == ([one], [])
    await reports.withdraw()
    assert (await store.get(key)).version == 0
    assert await reports.read() == ([], [])
    await store.close()


def test_without_a_port_of_its_own_a_replica_is_named_by_its_process(tmp_path: Path) -> None:
    name = replica_name(small_experiment.load(small_experiment.write(tmp_path)))
    assert name.startswith(f"{socket.gethostname()}:process-")
