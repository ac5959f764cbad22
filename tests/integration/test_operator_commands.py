"""The operator's commands as typed, against a real router: what they print, what they change, and their exit codes."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from builders import small_experiment

from gauntlet import adapters
from gauntlet.cli import address, main
from gauntlet.config import Config

pytestmark = pytest.mark.asyncio

SECRET = "operator-" + "o" * 20


class Terminal:
    """Types commands in another thread, beside the router; answers exit code, standard output, standard error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def type(self, *words: str | Path) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = await asyncio.to_thread(self._main, [str(word) for word in words])
        shown = self._capsys.readouterr()
        return code, shown.out, shown.err

    def _main(self, words: list[str]) -> int:
        try:
            return main(words)
        except SystemExit as ended:
            return int(ended.code or 0)


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ramp = [{"share": share, "min_time": "1d"} for share in (0.01, 0.05)]
    return small_experiment.write(tmp_path, ramp=ramp, slots=2)


def registered(config: Config, seed: int) -> str:
    registry = adapters.registry(config)
    model = small_experiment.classifier(seed)
    return registry.register(model, registry.get("v0001").schema, created_at=0.0).version


async def test_a_rollout_from_challenge_to_rollback(path: Path, terminal: Terminal) -> None:
    config = small_experiment.load(path)
    async with small_experiment.running(config):
        second, third = registered(config, 2), registered(config, 3)
        code, text, _ = await terminal.type("status", path)
        assert code == 0
        assert "champion v0001 serves all of the traffic" in text
        assert "nothing needs you" in text

        code, text, _ = await terminal.type("challenge", path, second, "--reason", "try it")
        assert code == 0
        assert text.startswith("began rollout test-r0001 (v0002 against v0001, in shadow), by loopback: try it\n")
        assert "this router is behind" not in text
        await terminal.type("challenge", path, third, "--reason", "and this", "--rule", "refresh")

        code, _, error = await terminal.type("ramp", path, "--stage", "1", "--reason", "up")
        assert (code, "refused (rollout_unnamed)" in error) == (1, True)
        code, text, _ = await terminal.type("ramp", path, "--stage", "1", "--reason", "up", "--rollout", "v0002")
        assert code == 0
        assert "challenger v0002 (test-r0001, prove) at 5 % (stage 1; the last is 1)" in text
        assert "champion v0001 serves 95 % of the traffic" in text

        code, text, _ = await terminal.type("pause", path, "--reason", "wait", "--rollout", "test-r0001")
        assert "v0002 at 5 % (stage 1; the last is 1) is paused by loopback: wait" in text
        code, text, _ = await terminal.type("resume", path, "--reason", "on", "--rollout", "v0002")
        assert (code, "paused" in text.lower()) == (0, False)
        code, text, _ = await terminal.type("abort", path, "--reason", "not this one", "--rollout", "v0003")
        assert "test-r0002 (v0003 against v0001) archived" in text

        code, text, _ = await terminal.type("promote", path, "--reason", "reviewed by hand")
        assert code == 0
        assert text.startswith("promoted test-r0001 (v0001 → v0002), by loopback: reviewed by hand\n")
        assert "champion v0002 serves all of the traffic" in text
        assert "v0002 is watched until" in text

        code, text, _ = await terminal.type("rollback", path, "--reason", "wrong model")
        assert text.startswith("rolled back test-r0001 (v0002 → v0001), by loopback: wrong model\n")
        code, text, _ = await terminal.type("rollback", path, "--reason", "once more")
        assert code == 0
        assert text.startswith("nothing changed: it was done already")
        assert "gauntlet rollback --to v0002" in text.replace("\n", " ")
        code, text, _ = await terminal.type("rollback", path, "--to", "v0002", "--reason", "it was right")
        assert (code, "champion v0002 serves all of the traffic" in text) == (0, True)

        code, text, _ = await terminal.type("history", path)
        assert [line.split()[4] for line in text.splitlines() if line[:4].strip()] == [
            *("began,", "began", "began", "set", "paused", "resumed", "archived", "promoted", "rolled", "rolled")
        ]
        code, text, _ = await terminal.type("history", path, "--after", "8", "--json")
        assert [(one["version"], one["command"]) for one in json.loads(text)] == [(9, "rollback"), (10, "rollback")]


async def test_every_command_of_the_api_is_a_command_here(path: Path, terminal: Terminal) -> None:
    config = small_experiment.load(path)
    async with small_experiment.running(config) as client:
        routes = (await client.get("/openapi.json")).json()["paths"]
        commands = {route.rpartition("/")[2] for route, methods in routes.items() if "post" in methods} - {
            "predict",
            "outcomes",
        }
        assert commands >= {"promote", "rollback"}
        for command in sorted(commands):
            code, text, _ = await terminal.type(command, "--help")
            assert (code, "--reason TEXT" in text) == (0, True), command


async def test_json_is_the_answer_of_the_api(path: Path, terminal: Terminal) -> None:
    config = small_experiment.load(path)
    async with small_experiment.running(config) as client:
        version = registered(config, 2)
        code, text, _ = await terminal.type("challenge", path, version, "--reason", "x", "--json")
        answer = json.loads(text)
        assert (code, answer["changed"], answer["last"]["command"]) == (0, True, "challenge")
        code, text, _ = await terminal.type("status", "--url", str(client.base_url), "--json")
        found = json.loads(text)
        assert (found["schema"], found["experiment"], found["champion"]) == (1, "test", "v0001")
        assert found["rollouts"][0]["started"].endswith("Z")


async def test_a_key_is_taken_from_the_configured_variable_a_file_or_a_named_one_and_never_shown(
    tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = "viewer-" + "v" * 20
    keys = [{"name": "wall", "role": "viewer", "env": "WALL"}, {"name": "ann", "role": "operator", "env": "ANN"}]
    path = small_experiment.write(tmp_path, keys=keys)
    monkeypatch.setenv("WALL", viewer)
    monkeypatch.setenv("ANN", SECRET)
    config = small_experiment.load(path)
    shown = []
    async with small_experiment.running(config) as client:
        url = str(client.base_url)
        (tmp_path / "key").write_text(SECRET + "\n")
        monkeypatch.setenv("MINE", SECRET)
        version = registered(config, 2)
        for words in (
            ("status", path),
            ("status", "--url", url, "--key-file", tmp_path / "key"),
            ("challenge", path, version, "--reason", "x"),
            ("pause", "--url", url, "--reason", "x", "--key-env", "MINE"),
        ):
            code, *texts = await terminal.type(*words)
            assert code == 0, texts
            shown += texts
        assert ", by ann: x" in shown[4]  # the role of the other does not do
        code, _, error = await terminal.type("status", "--url", url)
        assert (code, "the router asks for an API key: put the key into" in error) == (1, True)
        monkeypatch.setenv(address.KEY_VARIABLE, viewer)
        assert (await terminal.type("status", "--url", url))[0] == 0
        code, _, error = await terminal.type("resume", "--url", url, "--reason", "x")
        assert (code, "this needs the role operator" in error) == (1, True)
        monkeypatch.setenv(address.KEY_VARIABLE, "wrong" * 5)
        code, _, error = await terminal.type("status", "--url", url)
        assert (code, "the router knows no such key" in error) == (1, True)
    assert not any(secret in text for text in [*shown, error] for secret in (SECRET, viewer, "wrongwrong"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("status", "--url", "ftp://x"), "--url ftp://x: an address looks like http://127.0.0.1:8420"),
        (("status", "--url", "http://u:p@x"), "an address looks like"),
        (("status", "--url", "http://x:99999"), "--url http://x:99999: "),
        (("status",), "name the configuration (config.yaml is not in this folder), or give --url"),
        (("status", "other.yaml"), "cannot read other.yaml"),
        (("promote",), "the following arguments are required: --reason"),
        (("status", "--url", "http://localhost:1", "--key-env", "NOT_SET"), "--key-env NOT_SET: this environment"),
        (("status", "--url", "http://localhost:1", "--key-file", "none"), "--key-file none: No such file"),
        (("status", "--url", "http://localhost:1", "--key-env", "A", "--key-file", "b"), "not both"),
        (("status", "--url", "http://localhost:1", "--watch", "0"), "must be from 0.1 to 86400"),
        (("status", "--url", "http://localhost:1", "--wach"), "did you mean '--watch'?"),
    ],
)
async def test_wrong_usage_is_2_and_says_what_to_write(
    words: tuple[str, ...], said: str, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text, error = await terminal.type(*words)
    assert (code, text) == (2, "")
    assert said in error


async def test_where_no_router_answers_the_remedy_is_said(path: Path, terminal: Terminal) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    code, _, error = await terminal.type("status", "--url", url)
    assert code == 2
    assert error.startswith(f"gauntlet: no router answers at {url}: Connection refused; start it with  gauntlet up")
    code, _, error = await terminal.type("status", path)
    assert (code, "is it running? Else give --url" in error) == (2, True)


class Stranger(BaseHTTPRequestHandler):
    """Another server: what it answers is set by the test."""

    status: ClassVar[int] = 200
    body: ClassVar[bytes] = b""
    location: ClassVar[str | None] = None
    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("x-api-key"))
        self.send_response(self.status)
        if self.location:
            self.send_header("location", self.location)
        self.send_header("content-length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def stranger() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "location", "said"),
    [
        (404, b"<html>", None, "(404) is no Gauntlet router; give its --url"),
        (200, b"<html>", None, "answers otherwise than this release does"),
        (200, b'{"schema": 2}', None, "answers otherwise than this release does"),
        (502, b"", None, "(502) is no Gauntlet router"),
        (302, b"", "http://evil.example/", "sends on to http://evil.example/"),
    ],
)
async def test_another_server_is_told_from_a_router(
    stranger: str, status: int, body: bytes, location: str | None, said: str, terminal: Terminal
) -> None:
    Stranger.status, Stranger.body, Stranger.location = status, body, location
    code, _, error = await terminal.type("status", "--url", stranger, "--experiment", "e")
    assert (code, said in error) == (2, True), error


async def test_a_key_that_can_be_none_is_not_sent_and_not_shown(
    stranger: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stranger.asked.clear()
    monkeypatch.setenv(address.KEY_VARIABLE, "secret\nhost: x")
    code, _, error = await terminal.type("status", "--url", stranger, "--experiment", "e")
    assert (code, "secret" in error, Stranger.asked) == (2, False, [])


async def test_a_watch_goes_on_while_the_router_is_away(
    path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_experiment.load(path)
    looks = 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise KeyboardInterrupt

    async with small_experiment.running(config) as client:
        monkeypatch.setattr(time, "sleep", sleep)
        code, text, error = await terminal.type("status", path, "--watch", "0.1")
        assert (code, text.count("champion v0001 serves"), error) == (130, 3, "")
        url = str(client.base_url)
    looks = 0
    code, text, error = await terminal.type("status", "--url", url, "--experiment", "test", "--watch")
    assert (code, text, error.count("no router answers")) == (130, "", 3)
