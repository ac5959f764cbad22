"""The image: made from what is there, with what a service needs to run, and a health check that says what it says.
Invariant: nothing here needs a container engine."""

import http.server
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import parts
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "images" / "Dockerfile").read_text()


def _instructions() -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.splitlines() if line and not line.startswith("#")]


def test_image_is_built_from_what_is_there_and_sent() -> None:
    ignored = (DEPLOY / "images" / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [line.split()[1:-1] for line in _instructions() if line.startswith("COPY") and "--from" not in line]
    sources = [source for sources in copied for source in sources]
    assert all((ROOT / source).exists() for source in sources)
    assert {f"!{source}" for source in sources} == {line for line in ignored if line.startswith("!")}
    assert "*" in ignored


def _locked(name: str) -> dict[str, set[str]]:
    """Each package of a lock, with its version and marker, and its hashes."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        if re.match(r"[a-z0-9]", line):
            package = line.removesuffix("\\").strip()
            found[package] = set()
        elif "--hash=" in line:
            found[package].add(line.strip().removesuffix("\\").strip())
    return found


def test_image_has_what_a_service_needs_and_no_tool_of_development() -> None:
    runtime, everything = _locked("runtime.txt"), _locked("lock.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {re.split(r"[\[>=<]", one)[0] for one in project["project"]["dependencies"]}
    tools = {re.split(r"[\[>=<]", one)[0] for one in project["dependency-groups"]["dev"]}
    names = {re.split(r"[\[=]", package)[0] for package in runtime}
    assert needed <= names
    assert not tools & names - needed
    same = {package.split(" ;")[0]: hashes for package, hashes in everything.items()}
    assert {package.split(" ;")[0]: hashes for package, hashes in runtime.items()}.items() <= same.items()


def test_image_holds_every_package() -> None:
    found = re.search(r"include = \[(.*)\]", (ROOT / "pyproject.toml").read_text())
    assert found is not None
    for package in re.findall(r'"(\w+)\*"', found[1]):
        assert f"COPY {package} {package}" in _instructions()


def test_image_installs_locked_hashes_and_runs_as_nobody_special() -> None:
    lines = _instructions()
    assert any("--require-hashes -r requirements/runtime.txt" in line for line in lines)
    last = max(index for index, line in enumerate(lines) if line.startswith("FROM"))
    users = [line.split()[1] for line in lines[last:] if line.startswith("USER")]
    assert users
    assert users[-1] not in {"root", "0"}
    assert lines[-2] == 'ENTRYPOINT ["gauntlet"]'


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_healthcheck_says_what_the_service_says(status: int, code: int) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert _health(server.server_port) == code
        finally:
            server.shutdown()
            thread.join()


def test_healthcheck_of_nobody_fails(free_tcp_port: int) -> None:
    assert _health(free_tcp_port) == 1


@pytest.fixture
def free_tcp_port() -> int:
    return parts.free_port()


def _health(port: int) -> int:
    script = DEPLOY / "images" / "healthcheck.py"
    environment = {"http_proxy": "http://127.0.0.1:9"}
    return subprocess.run([sys.executable, str(script), str(port), "/readyz"], env=environment, timeout=30).returncode
