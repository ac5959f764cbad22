"""Several routers on one state store: each reports under a name of its own, and each follows the one control record."""

from __future__ import annotations

import shutil
import socket
import uuid
from pathlib import Path

import parts
from builders import small_experiment

from gauntlet import adapters, keys
from router.app import replica_name

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


def test_without_a_port_of_its_own_a_replica_is_named_by_its_process(tmp_path: Path) -> None:
    name = replica_name(small_experiment.load(small_experiment.write(tmp_path)))
    assert name.startswith(f"{socket.gethostname()}:process-")
