"""The retrainer's API over its own worker, turned by hand: commands that are true once, whoever asks, however often."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import httpx
import msgspec
import pytest
from builders import retraining_data
from builders.retrainer_port import MODEL, WHY, retrainer, served

from gauntlet import keys
from gauntlet.config import KeyConfig
from gauntlet.types import Role
from retrainer.api.operations import RunningOperations
from retrainer.app import application

pytestmark = pytest.mark.asyncio


async def test_a_round_of_jobs_from_trigger_to_report(tmp_path: Path) -> None:
    async with retrainer(tmp_path) as loop, served(loop) as port:
        found = await port.get("check")
        assert found["should_retrain"] is False
        assert {"enabled", "single flight", "cool_down"} <= {c["name"] for c in found["conditions"]}

        answer = await port.post("trigger", key="nightly-1")
        assert answer.status_code == 202, answer.text
        (job,) = answer.json()["jobs"]
        assert (await port.get(f"jobs/{job}"))["status"] == "pending"
        again = await port.post("trigger", key="nightly-1")
        assert (again.status_code, again.content) == (202, answer.content), "a repeated request starts nothing"
        other = await port.post("trigger", {"reason": "something else"}, key="nightly-1")
        assert (other.status_code, other.json()["error"]["code"]) == (409, "id_reused")
        bare = await port.client.post("/retraining/trigger", json=WHY, headers={"idempotency-key": "nightly-1"})
        assert (bare.status_code, bare.content) == (202, answer.content), "without its name it is the same model"
        second = await port.post("trigger", key="nightly-2")
        assert second.status_code == 409
        assert second.json()["error"]["code"] == "retraining_refused"
        assert second.json()["error"]["retriable"] is True
        assert [c["name"] for c in second.json()["conditions"] if c["met"] is False] == [
            "single flight",
            "min_interval",
        ]

        await loop.worker.step()
        running = await port.get(f"jobs/{job}")
        assert (running["status"], running["by"], running["reason"]) == ("running", "loopback", "loopback: new labels")
        assert running["progress"]["step"]
        assert (await port.client.get("/retraining/status")).json()["running"]["id"] == job
        await loop.turn_until(lambda: loop.store.live is None)

        done = await port.get(f"jobs/{job}")
        assert (done["status"], done["accepted"], done["version"], done["progress"]) == (
            "completed",
            True,
            "v0002",
            None,
        )
        refused = await port.post(f"jobs/{job}/cancel")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "job_over")
        (line,) = (await port.get("report"))["lines"]
        assert (line["job"], line["trigger"], line["version"], line["state"]) == (job, "manual", "v0002", "in shadow")
        assert line["improvement"] > 0.01
        assert line["rollout"] == "turning-r0001"
        assert [(v["version"], v["parent"], v["job"]) for v in await port.get("versions")] == [
            ("v0002", "v0001", job),
            ("v0001", None, ""),
        ]
        assert {tuple(v["features"]) for v in await port.get("versions")} == {("x1", "x2", "x3")}
        history = await port.get("history")
        assert [(one["command"], one["actor"], one["reason"]) for one in history] == [
            ("trigger", "loopback", "new labels"),
            ("trigger", "loopback", "new labels"),
        ]
        assert (await port.get("history?after=1")) == history[1:]
        assert (await port.client.get(f"{MODEL}/jobs/{job}/log")).headers["content-type"].startswith("text/plain")

    # After a restart the same key still has the same answers, and starts nothing.
    async with retrainer(tmp_path) as loop, served(loop) as port:
        assert (await port.post("trigger", key="nightly-1")).content == answer.content
        assert (await port.post("trigger", key="nightly-2")).content == second.content
        assert len(await port.get("jobs")) == 1


async def test_of_many_triggers_at_once_one_starts_its_jobs(tmp_path: Path) -> None:
    recipes = "[{name: a}, {name: b}]"
    async with retrainer(tmp_path, rule="refresh", recipes=recipes) as loop, served(loop) as port:
        answers = await asyncio.gather(
            *(port.post("trigger", {**WHY, "force": True}, key=f"k{number % 4}") for number in range(12)),
            loop.worker.step(),
        )
        posted = [each for each in answers if isinstance(each, httpx.Response)]
        started = {each.content for each in posted if each.status_code == 202}
        assert len(started) == 1
        assert {each.status_code for each in posted} == {202, 409}
        assert [job.recipe for job in loop.store.jobs.values()] == ["a", "b"]
        first, second = loop.store.jobs
        cancelled = await port.post(f"jobs/{second}/cancel")
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        assert (await port.post(f"jobs/{second}/cancel")).json() == cancelled.json()
        assert (await port.post(f"jobs/{first}/cancel")).json()["error"] == "cancelled by loopback: new labels"
        await loop.worker.step()
        assert loop.store.live is None
        assert [one["outcome"] for one in await port.get("history")][-3:] == [
            *("cancelled", "was cancelled already", "cancelled")
        ]


async def test_stopped_monitoring_holds_triggers_and_lets_people_go_on(tmp_path: Path) -> None:
    async with retrainer(tmp_path) as loop, served(loop) as port:
        stopped = await port.post("stop-monitoring", {"reason": "the feed is being repaired"})
        assert stopped.json() == {"model": "turning", "monitoring": False, "changed": True}
        assert (await port.post("stop-monitoring", {})).json()["changed"] is False
    async with retrainer(tmp_path) as loop, served(loop) as port:
        now = loop.store.now
        await loop.publish(keys.DRIFT, retraining_data.drift(now, severity="CRITICAL", episode="grave"))
        await loop.worker.step()
        assert loop.store.jobs == {}, "stopped before the restart, and still"
        found = await port.get("check")
        assert (found["should_retrain"], found["monitoring"]) == (False, False)
        assert [wait.partition(":")[0] for wait in found["waits"]["drift"]] == ["monitoring"]
        (open_request,) = found["requests"]
        assert open_request["id"] == "grave"

        manual = await port.post("trigger")
        assert manual.status_code == 202
        await port.post(f"jobs/{manual.json()['jobs'][0]}/cancel")
        assert (await port.post("start-monitoring")).json()["monitoring"] is True
        await loop.worker.step()
        assert [job.trigger for job in loop.store.jobs.values()] == ["manual", "drift"]


async def test_what_a_full_disk_did_not_take_is_not_told_and_once_it_does_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with retrainer(tmp_path) as loop, served(loop) as port:

        def full() -> bool:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as disk:
            disk.setattr(loop.store, "commit", full)
            answer = await port.post("trigger", key="k")
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_written")
            assert (await port.get("history")) == []
        answer = await port.post("trigger", key="k")
        assert answer.status_code == 202
        assert answer.json()["jobs"] == [*loop.store.jobs]
        assert len(await port.get("history")) == 1
        assert (await port.post("trigger", key="k")).content == answer.content


async def test_the_baseline_is_the_champions_own_or_what_somebody_gives(tmp_path: Path) -> None:
    async with retrainer(tmp_path) as loop, served(loop) as port:
        nothing = await port.post("initialize", {})
        assert (nothing.status_code, nothing.json()["error"]["code"]) == (409, "no_metrics")
        given = await port.post(
            "initialize", {"baseline_metrics": {"accuracy": 0.85, "f1_score": 0.83}, "reason": "as agreed"}
        )
        assert [one["reason"] for one in await port.get("history")] == ["as agreed"]
        assert given.json()["metrics"] == {"accuracy": 0.85, "f1_score": 0.83}
        assert (await port.client.get("/retraining/status")).json()["baseline"]["by"] == "loopback"
        headers, body = {"content-type": "application/json"}, b'{"baseline_metrics": {"accuracy": NaN}}'
        wrong = await port.client.post(f"{MODEL}/initialize", headers=headers, content=body)
        assert wrong.status_code == 400
        for metrics, said in (
            ({"acuracy": 0.85}, "must have 'accuracy', from which a fall is measured, beside acuracy"),
            ({"accuracy": 85}, "between 0 and 1, not 85"),
        ):
            refused = await port.post("initialize", {"baseline_metrics": metrics})
            assert (refused.status_code, said in refused.json()["error"]["message"]) == (400, True), refused.text
        assert (await port.client.get("/retraining/status")).json()["baseline"]["metrics"]["f1_score"] == 0.83


async def test_keys_and_roles_are_the_routers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALL", "wall-" + "w" * 20)
    monkeypatch.setenv("ANN", "ann-" + "a" * 20)
    async with retrainer(tmp_path) as loop:
        wall = KeyConfig(name="wall", role=Role.VIEWER, env="WALL")
        ann = KeyConfig(name="ann", role=Role.OPERATOR, env="ANN")
        loop.config = msgspec.structs.replace(loop.config, keys=[wall, ann])
        async with served(loop, "203.0.113.7") as port:
            refused = await port.client.get("/retraining/status")
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthenticated")
            assert (await port.client.get("/metrics")).status_code == 200
        async with served(loop, "203.0.113.7", {"x-api-key": "wall-" + "w" * 20}) as port:
            assert (await port.get("jobs")) == []
            low = await port.post("trigger")
            assert (low.status_code, low.json()["error"]["code"]) == (403, "forbidden")
        async with served(loop, "203.0.113.7", {"authorization": "Bearer ann-" + "a" * 20}) as port:
            assert (await port.post("trigger")).status_code == 202
            assert (await port.get("jobs"))[0]["by"] == "ann"


async def test_without_keys_only_this_machine_is_served_but_for_the_metrics(tmp_path: Path) -> None:
    async with retrainer(tmp_path) as loop:
        async with served(loop, "203.0.113.7") as port:
            assert (await port.client.get("/retraining/status")).status_code == 403
            assert (await port.client.get("/openapi.json")).status_code == 403
            assert "gauntlet_retrain_jobs_total" in (await port.client.get("/metrics")).text
        async with served(loop) as port:
            elsewhere = await port.client.get("/retraining/status", headers={"origin": "http://evil.example"})
            assert elsewhere.status_code == 403


async def test_what_is_not_there_and_what_is_not_ready_is_said(tmp_path: Path) -> None:
    async with retrainer(tmp_path) as loop:
        async with served(loop) as port:
            other = await port.client.get("/retraining/other/check")
            assert other.status_code == 404
            assert other.json()["error"]["message"] == "no model 'other' here; this retrainer trains 'turning'"
            job = await port.client.get(f"{MODEL}/jobs/..%2f..%2fetc")
            assert job.status_code == 404
            assert (await port.post("trigger", {"reason": ""})).json()["error"]["code"] == "bad_request"
            assert (await port.post("trigger", key="no spaces")).status_code == 400
            async with loop.worker.operations.turn:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("retrainer.api.operations.TURN_SECONDS", 0.01)
                    busy = await port.post("trigger")
                    assert (busy.status_code, busy.json()["error"]["code"]) == (503, "busy")
                assert (await port.client.get("/retraining/status")).status_code == 200, "questions wait for nothing"
        transport = httpx.ASGITransport(application(loop.config, RunningOperations()))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            early = await client.get("/retraining/status")
            assert (early.status_code, early.json()["error"]["retriable"]) == (503, True)
            assert (await client.get("/healthz")).status_code == 200


async def test_a_schedule_that_is_set_starts_at_its_next_time_and_not_for_those_before(tmp_path: Path) -> None:
    now = retraining_data.START + 43 * retraining_data.DAY  # a midnight
    async with retrainer(tmp_path) as loop, served(loop) as port:
        await loop.publish(keys.DRIFT, retraining_data.drift(now, severity="LOW"))
        await loop.worker.step()
        daily = {"schedule_interval_days": 1, "schedule_time": "02:00"}
        given = await port.client.post("/retraining/configure", json=daily)
        assert given.status_code == 200, given.text
        await loop.worker.step()
        assert loop.store.jobs == {}
        (next_,) = [c for c in (await port.get("check"))["conditions"] if c["trigger"] == "schedule"]
        assert (next_["met"], next_["limit"]) == (False, now + 2 * 3600)
        later = retraining_data.drift(now + 2 * 3600, severity="LOW", episode="later")
        await loop.publish(keys.DRIFT, later)
        await loop.worker.step()
        assert [job.trigger for job in loop.store.jobs.values()] == ["schedule"]


async def test_settings_by_their_known_names_hold_after_a_restart_and_are_taken_back_by_null(tmp_path: Path) -> None:
    async with retrainer(tmp_path) as loop, served(loop) as port:
        settings = {"model_name": "turning", "performance_threshold": 0.08, "max_retrain_frequency_hours": 3}
        given = await port.client.post("/retraining/configure?reason=too+nervous", json=settings)
        assert given.status_code == 200, given.text
        assert given.json()["configured"] == {"performance_threshold": 0.08, "max_retrain_frequency_hours": 3}
        for wrong, said in (
            ({"performance_treshold": 0.1}, "did you mean 'performance_threshold'?"),
            ({"performance_threshold": 7}, "`performance_threshold`"),
            ({"performance_treshold": None}, "did you mean 'performance_threshold'?"),
            ({"traffic_split": None}, "`ramp`"),
            ({"model_name": "other"}, "no model 'other' here"),
            ({"reason": "nothing"}, "no setting is given"),
            ({"performance_threshold": 0.1, "reason": 7}, "`reason` must be a text"),
            ({"training_data_window_days": 1}, "must be longer than"),
        ):
            refused = await port.client.post("/retraining/configure", json=wrong)
            assert said in refused.json()["error"]["message"], refused.text
    async with retrainer(tmp_path) as loop, served(loop) as port:
        status = (await port.client.get("/retraining/status")).json()
        assert status["configured"] == {"performance_threshold": 0.08, "max_retrain_frequency_hours": 3}
        (limit,) = {c["limit"] for c in (await port.get("check"))["conditions"] if c["name"] == "min_interval"}
        assert limit == 3 * 3600
        back = await port.client.post(
            "/retraining/configure", json={"max_retrain_frequency_hours": None, "reason": "it was"}
        )
        assert back.json()["configured"] == {"performance_threshold": 0.08}
        (limit,) = {c["limit"] for c in (await port.get("check"))["conditions"] if c["name"] == "min_interval"}
        assert limit == 6 * 3600
        first, *_, last = await port.get("history")
        assert (first["reason"], last["reason"]) == ("too nervous", "it was"), "in the address, or among the settings"
        assert last["outcome"] == "max_retrain_frequency_hours: null"
        assert first["outcome"] == "max_retrain_frequency_hours: 3; performance_threshold: 0.08"


async def test_settings_in_sections_are_the_same_as_without(tmp_path: Path) -> None:
    async with retrainer(tmp_path) as loop, served(loop) as port:
        for body, configured in (
            ({"retraining": {"performance_threshold": 0.08}}, {"performance_threshold": 0.08}),
            ({"performance_threshold": 0.07}, {"performance_threshold": 0.07}),
            ({"retraining": {"performance_threshold": None}}, {}),
            ({"notification_email": None}, {}),
        ):
            given = await port.client.post("/retraining/configure", json=body)
            assert given.json()["configured"] == configured, given.text


async def test_half_a_character_in_a_request_is_quoted_and_no_fault(tmp_path: Path) -> None:
    async with retrainer(tmp_path) as loop, served(loop) as port:
        headers = {"content-type": "application/json"}
        refused = await port.client.post("/retraining/configure", headers=headers, content=b'{"\\ud800": 1}')
        assert refused.status_code == 400, refused.text
        assert r"\ud800" in refused.json()["error"]["message"]


async def test_only_a_refused_body_gets_the_hint_to_its_content_type(tmp_path: Path) -> None:
    async with retrainer(tmp_path) as loop, served(loop) as port:
        asked = await port.client.get(f"{MODEL}/jobs?limit=0")
        told = await port.client.post(f"{MODEL}/trigger", content=b'{"reason": "x"}')
        nothing = (await port.client.post(f"{MODEL}/trigger")).json()["error"]["message"]
        assert nothing.startswith("body: there is none: send a JSON object")
        assert "content-type" not in asked.json()["error"]["message"]
        assert "content-type" in told.json()["error"]["message"]


async def test_settings_that_no_longer_fit_the_file_are_told_and_the_files_hold(tmp_path: Path) -> None:
    async with retrainer(tmp_path) as loop, served(loop) as port:
        given = await port.client.post("/retraining/configure", json={"training_data_window_days": 20})
        assert given.status_code == 200
    async with retrainer(tmp_path, validation="14d", window="60d") as loop, served(loop) as port:
        (problem,) = (await port.client.get("/retraining/status")).json()["problems"]
        assert problem["code"] == "configured_refused"
        assert "must be longer than" in problem["text"]
        assert loop.worker.runner.settings == loop.config.retrain
        back = await port.client.post("/retraining/configure", json={"training_data_window_days": None})
        assert back.json()["configured"] == {}
        assert (await port.client.get("/retraining/status")).json()["problems"] == []
