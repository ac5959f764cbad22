"""Requests that wait for a person: approved by somebody else, declined, and one at a time."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from builders import retraining_data
from builders.retrainer_port import retrainer, served

from gauntlet import keys
from gauntlet.config import KeyConfig
from gauntlet.types import Role
from retrainer.triggers.requests import RetrainRequest

pytestmark = pytest.mark.asyncio


async def test_a_request_that_asks_for_approval_starts_its_job_once_it_has_it(tmp_path: Path) -> None:
    async with retrainer(tmp_path) as loop, served(loop) as port:
        for kind, mode in (("volume", "approve"), ("quality", "suggest")):
            loop.store.open_request(
                RetrainRequest(
                    kind=kind,  # type: ignore[arg-type]
                    id=f"{kind}-1",
                    at=loop.store.now,
                    severity=retraining_data.drift(0).severity,  # type: ignore[arg-type]
                    model=None,
                    reason="enough of it",
                    mode=mode,  # type: ignore[arg-type]
                )
            )
        unknown = await port.post("requests/nobody/approve")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_request")
        idea = await port.post("requests/quality-1/approve")
        assert (idea.status_code, idea.json()["error"]["code"]) == (409, "no_approval_asked")
        approved = await port.post("requests/volume-1/approve")
        assert approved.json()["approved_by"] == "loopback"
        assert (await port.post("requests/volume-1/approve")).json() == approved.json()


async def test_where_people_need_a_second_one_a_trigger_waits_for_their_approval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANN", "ann-" + "a" * 20)
    monkeypatch.setenv("BOB", "bob-" + "b" * 20)
    people = [KeyConfig(name=name.lower(), role=Role.OPERATOR, env=name) for name in ("ANN", "BOB")]
    async with retrainer(tmp_path, triggers="{manual: {mode: approve}}") as loop:
        loop.config = msgspec.structs.replace(loop.config, keys=people)
        await loop.killed()
        async with served(loop, headers={"x-api-key": "ann-" + "a" * 20}) as port:
            waits = await port.post("trigger", key="one")
            answer = waits.json()
            assert (waits.status_code, answer["accepted"], answer["waiting"], answer["jobs"]) == (202, False, True, [])
            assert [c["name"] for c in waits.json()["conditions"] if c["met"] is False] == ["approval"]
            await loop.worker.step()
            assert loop.store.jobs == {}
            request = waits.json()["request"]
            (problem,) = (await port.client.get("/retraining/status")).json()["problems"]
            assert (problem["code"], problem["severity"]) == ("approval_asked", "HIGH")
            assert problem["text"] == "retraining waits for approval (manual: ann: new labels)"
            assert f"gauntlet retrain approve {request}" in problem["remedy"]
            second = await port.post("trigger", {"reason": "me too"}, key="two")
            assert (second.status_code, second.json()["error"]["code"]) == (409, "retraining_refused")
            assert f"{request} is open already: approve it or decline it" in second.json()["error"]["message"]
            again = await port.post("trigger", {"reason": "me too"}, key="two")
            assert again.content == second.content, "the same key, the same answer"
            assert (await port.post("trigger", key="one")).content == waits.content
            assert {key: r.id for key, r in loop.store.requests.items()} == {"manual": request}
            own = await port.post(f"requests/{request}/approve")
            assert (own.status_code, own.json()["error"]["code"]) == (409, "own_request")
        async with served(loop, headers={"x-api-key": "bob-" + "b" * 20}) as port:
            assert (await port.post(f"requests/{request}/approve")).json()["approved_by"] == "bob"
            await loop.worker.step()
            assert [(job["by"], job["request"]) for job in await port.get("jobs")] == [("ann", request)]
            assert (await port.client.get("/retraining/status")).json()["problems"] == []


async def test_a_request_that_is_declined_gets_no_jobs_and_makes_room_for_another(tmp_path: Path) -> None:
    async with retrainer(tmp_path, triggers="{manual: {mode: approve}}") as loop, served(loop) as port:
        first = (await port.post("trigger")).json()["request"]
        declined = await port.post(f"requests/{first}/decline", {"reason": "the labels are not in yet"})
        assert (declined.status_code, declined.json()["id"]) == (200, first)
        assert (await port.post(f"requests/{first}/decline")).status_code == 404
        await loop.worker.step()
        assert (loop.store.jobs, loop.store.requests) == ({}, {})
        assert (await port.client.get("/retraining/status")).json()["problems"] == []
        assert [(c["command"], c["about"]) for c in await port.get("history")][-1] == ("decline", [first])
        assert (await port.post("trigger")).json()["waiting"] is True

        later = loop.store.now + retraining_data.DAY
        await loop.publish(keys.DRIFT, retraining_data.drift(later, quality=0.6, root_cause="quality"))
        await loop.worker.step()
        lasting = loop.store.requests["quality"].id
        refused = await port.post(f"requests/{lasting}/decline")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "cause_lasts")
