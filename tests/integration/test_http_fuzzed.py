"""Schemathesis against every service's port: what the OpenAPI document says is what comes, whatever is sent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from builders import small_experiment
from builders.service_processes import command, until_written

from gauntlet import first_start, http_server
from gauntlet.config import HttpConfig
from gauntlet.metrics_app import metrics_app

SECRET = "sesame-of-forty-robbers"
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "classification": {},
    "regression-with-keys": {
        "task": "regression",
        "keys": [{"name": "ops", "role": "operator", "env": "GAUNTLET_FUZZ_KEY"}],
    },
}


def fuzz(url: str, folder: Path, *options: str) -> None:
    """Every check of schemathesis, with a seed; its report is the failure."""
    words = ["run", f"{url}/openapi.json", "--url", url, "--seed", "20130101", "--checks", "all", "--no-color"]
    words += ["--phases", "examples,coverage,fuzzing", "--max-examples", "25", *options]
    script = "import sys; from schemathesis.cli import schemathesis; sys.argv[0] = 'st'; schemathesis()"
    ended = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=folder, capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
    assert " generated" in ended.stdout


@pytest.mark.parametrize("name", EXPERIMENTS)
async def test_the_router_answers_as_its_document_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("GAUNTLET_FUZZ_KEY", SECRET)
    changes = EXPERIMENTS[name]
    model = small_experiment.regressor() if changes.get("task") == "regression" else small_experiment.classifier()
    path = small_experiment.write(tmp_path, model, **changes)
    address = tmp_path / "gauntlet-data" / "router.address"
    async with command("router", path):
        await until_written(address, "\n")
        # A wrong key in one header beside a good one in the other is no ignored authentication.
        options = (
            ("--header", f"X-API-Key: {SECRET}", "--exclude-checks", "ignored_auth") if changes.get("keys") else ()
        )
        fuzz(address.read_text().strip(), tmp_path, *options)
    log = (tmp_path / "router.log").read_text()
    assert "Traceback" not in log


async def test_the_retrainer_answers_as_its_document_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAUNTLET_FUZZ_KEY", SECRET)
    path = small_experiment.write(tmp_path, keys=EXPERIMENTS["regression-with-keys"]["keys"])
    await first_start.ensure(small_experiment.load(path))
    address = tmp_path / "gauntlet-data" / "retrainer.address"
    async with command("retrainer", path):
        await until_written(address, "\n")
        url, key = address.read_text().strip(), ("--header", f"X-API-Key: {SECRET}", "--exclude-checks")
        # Settings limit each other, and a baseline must have the task's own figure, as no schema says: what fits the
        # schema may be refused all the same.
        limited = "/(configure|initialize)$"
        fuzz(url, tmp_path, *key, "ignored_auth", "--exclude-path-regex", limited)
        fuzz(url, tmp_path, *key, "ignored_auth,positive_data_acceptance", "--include-path-regex", limited)
    assert "Traceback" not in (tmp_path / "retrainer.log").read_text()


def test_the_port_of_the_evaluator_answers_as_its_document_says(tmp_path: Path) -> None:
    with (
        http_server.listen("127.0.0.1", 0, "observe.evaluator_port") as listener,
        http_server.served_beside(metrics_app("evaluator"), listener, HttpConfig(), max_body_bytes=0),
    ):
        fuzz(http_server.url(listener), tmp_path)


async def test_the_document_is_of_the_experiment_that_is_served(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    async with small_experiment.running(config) as client:
        document = (await client.get("/openapi.json")).json()
        example = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
        answer = await client.post("/v1/predict", json=example["one"]["value"])
        assert answer.status_code == 200
        assert answer.json()["id"] == "case-1"
        assert (await client.post("/v1/predict", json=example["many"]["value"])).status_code == 200
        outcome = document["paths"]["/v1/outcomes"]["post"]["requestBody"]["content"]["application/json"]["examples"]
        assert (await client.post("/v1/outcomes", json=outcome["one"]["value"])).status_code == 202
    schemas = document["components"]["schemas"]
    assert list(schemas["Instance"]["properties"]["features"]["properties"]) == [*small_experiment.FEATURES]
    assert schemas["Outcome"]["properties"]["value"]["enum"] == [0, False, 1, True]
    codes = {code for path in document["paths"].values() for each in path.values() for code in each["responses"]}
    assert codes >= {"200", "202", "400", "401", "403", "404", "405", "408", "409", "413", "415", "431", "500", "503"}
    assert "422" not in codes


async def test_the_page_of_the_routes_needs_no_network(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    async with small_experiment.running(config) as client:
        page = (await client.get("/docs")).text
        assert "://" not in page.replace("http://www.w3.org", "")
        for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
            assert f"/static-offline-docs/{name}" in page
            assert len((await client.get(f"/static-offline-docs/{name}")).content) > 100_000
        document = json.loads((await client.get("/openapi.json")).text)
        assert document["openapi"].startswith("3.")
        assert "/docs has every route" in (await client.get("/")).json()["error"]["message"]
    said = {path: each["summary"] for path, methods in document["paths"].items() for each in methods.values()}
    assert (
        said["/v1/experiments/{experiment}/approve"] == "Approve leaving the present stage, where its gate asks for it"
    )
    assert all(" " in summary for summary in said.values()), "a folded route says what it does"


async def test_errors_of_every_kind_have_one_body(tmp_path: Path) -> None:
    config = small_experiment.load(small_experiment.write(tmp_path))
    async with small_experiment.running(config) as client:
        asked: list[tuple[str, str, int, str]] = [
            ("GET", "/nowhere", 404, "not_found"),
            ("GET", "/v1/predict/", 404, "not_found"),
            ("DELETE", "/v1/outcomes", 405, "method_not_allowed"),
            ("GET", "/v1/experiments/other", 404, "unknown_experiment"),
            ("GET", "/v1/experiments/test/history?after=-1", 400, "bad_request"),
            ("POST", "/v1/experiments/test/promote", 400, "bad_request"),
        ]
        for method, path, status, code in asked:
            answer: httpx.Response = await client.request(method, path)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["retriable"]) == (status, code, False)
