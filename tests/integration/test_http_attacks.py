"""What strangers may send to a service's port: it is refused or cut off in bounded time and memory, and counted, and a
good client is served all the while. Over real sockets, on the router as a process and on the port of the others."""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import raw_http, small_experiment
from builders.raw_http import HOST, Answer, ask, request

from gauntlet import http_server
from gauntlet.config import HttpConfig
from gauntlet.config.section import Seconds
from gauntlet.metrics_app import metrics_app

MEGABYTE = 2**20
BODY = 64 * 1024
LIMITS = {"header_timeout": "1s", "body_timeout": "1s", "write_timeout": "1s", "keep_alive": "1s"}
PREDICT = json.dumps({"features": small_experiment.instance(0)}).encode()


class Service:
    """A service's port, and what its process holds in memory (None: it is this process)."""

    def __init__(self, url: str, good: str, pid: int | None) -> None:
        self.url = url
        self.good = good
        self._pid = pid

    def memory(self) -> int:
        """Bytes at the most so far (0 where that can't be told)."""
        status = Path(f"/proc/{self._pid}/status")
        if self._pid is None or not status.exists():
            return 0
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])

    def refused(self, reason: str) -> float:
        """How often the port has refused for this reason."""
        sample = f'gauntlet_refused_total{{reason="{reason}",route="unrouted"}}'
        lines = ask(self.url, request("GET", "/metrics")).body.decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(sample))

    def serves(self) -> bool:
        return ask(self.url, request("GET", self.good)).status == 200


@contextlib.contextmanager
def _router(folder: Path) -> Iterator[Service]:
    settings = {"port": 0, "max_body_bytes": BODY, "deadline": "20s", "challenger_timeout": "5s"}
    path = small_experiment.write(folder, router=settings, http=LIMITS)
    address = folder / "gauntlet-data" / "router.address"
    with (folder / "router.log").open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "gauntlet.cli", "router", str(path)], stderr=output)
    try:
        while not (address.exists() and address.read_text().endswith("\n")):
            assert process.poll() is None, (folder / "router.log").read_text()
            time.sleep(0.05)
        yield Service(address.read_text().strip(), "/healthz", process.pid)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _metrics() -> Iterator[Service]:
    limits = HttpConfig(**{name: Seconds.parse(value) for name, value in LIMITS.items()})
    with (
        http_server.listen("127.0.0.1", 0, "observe.evaluator_port") as listener,
        http_server.served_beside(metrics_app("evaluator"), listener, limits, max_body_bytes=0),
    ):
        yield Service(http_server.url(listener), "/metrics", None)


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with _router(tmp_path_factory.mktemp("router")) as service:
        yield service


@pytest.fixture(scope="module", params=["router", "evaluator"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    if request.param == "router":
        yield request.getfixturevalue("router")
    else:
        with _metrics() as found:
            yield found


@contextlib.contextmanager
def counted(service: Service, reason: str, times: int = 1) -> Iterator[None]:
    """What happens meanwhile is refused so often for this reason, in 64 MiB of memory, and a good client is served."""
    before, memory = service.refused(reason), service.memory()
    yield
    assert service.serves()
    assert service.refused(reason) == before + times
    assert service.memory() - memory < 64 * MEGABYTE


def answered(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.code, answer.headers["connection"]) == (status, code, "close")


# Headers --------------------------------------------------------------------------------------------------------------


def test_a_header_of_107_megabytes(service: Service) -> None:
    with counted(service, "headers_too_large"):
        pieces = [b"GET /metrics HTTP/1.1\r\n" + HOST + b"X-Long: ", *[b"x" * MEGABYTE] * 107, b"\r\n\r\n"]
        answered(ask(service.url, *pieces), 431, "headers_too_large")


def test_a_hundred_megabytes_of_small_headers(service: Service) -> None:
    with counted(service, "headers_too_large"):
        pieces = [b"GET /metrics HTTP/1.1\r\n" + HOST, *[b"X-Many: 1\r\n" * 100_000] * 100, b"\r\n"]
        answered(ask(service.url, *pieces), 431, "headers_too_large")


@pytest.mark.parametrize(("many", "value"), [(10_000, b"1"), (101, b"1"), (2, b"x" * 20_000)])
def test_headers_over_a_limit(service: Service, many: int, value: bytes) -> None:
    with counted(service, "headers_too_large"):
        lines = b"".join(b"X-%d: %b\r\n" % (i, value) for i in range(many))
        answered(ask(service.url, b"GET /metrics HTTP/1.1\r\n" + HOST + lines + b"\r\n"), 431, "headers_too_large")


def test_a_path_that_never_ends(service: Service) -> None:
    with counted(service, "headers_too_large"):
        answered(ask(service.url, b"GET /", *[b"a" * MEGABYTE] * 50), 431, "headers_too_large")


def test_headers_within_the_limits_are_no_fault(service: Service) -> None:
    lines = [b"X-%d: %b" % (i, b"v" * 200) for i in range(90)]
    assert ask(service.url, request("GET", service.good, *lines)).status == 200
    in_pieces = request("GET", service.good, *lines)
    assert (
        ask(service.url, *(in_pieces[i : i + 4000] for i in range(0, len(in_pieces), 4000)), pause=0.01).status == 200
    )


@pytest.mark.parametrize(
    "sent", [b"G", b"GET /metrics HTTP/1.1\r\n", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Half"]
)
def test_headers_that_stay_half_sent(service: Service, sent: bytes) -> None:
    began = time.monotonic()
    with counted(service, "request_timeout"):
        answered(ask(service.url, sent), 408, "request_timeout")
        assert time.monotonic() - began < 10


def test_headers_that_drip(service: Service) -> None:
    """Slowloris: always something, never all of it. Each byte must not begin the time anew."""
    with counted(service, "request_timeout"), raw_http.connect(service.url) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert raw_http.drip(connection, b"X: y\r\n", pause=0.2, seconds=10)
        answered(Answer(raw_http.read(connection)), 408, "request_timeout")


def test_line_ends_keep_no_connection(service: Service) -> None:
    with raw_http.connect(service.url) as connection:
        raw_http.send(connection, [request("GET", service.good).replace(b"Connection: close\r\n", b""), b"\r\n"], 0.2)
        began = time.monotonic()
        assert raw_http.read(connection).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - began < 10


# Bodies ---------------------------------------------------------------------------------------------------------------


def post(*headers: bytes) -> bytes:
    return b"\r\n".join([b"POST /v1/predict HTTP/1.1", HOST.strip(), *headers, b"", b""])


CHUNKED = post(b"Transfer-Encoding: chunked")


def test_a_body_that_stays_half_sent(router: Service) -> None:
    with counted(router, "request_timeout"):
        answered(ask(router.url, post(b"Content-Length: 1000") + b"{"), 408, "request_timeout")


def test_three_hundred_half_sent_bodies(router: Service) -> None:
    began = time.monotonic()
    with counted(router, "request_timeout", 300), contextlib.ExitStack() as stack:
        connections = [stack.enter_context(raw_http.connect(router.url)) for _ in range(300)]
        for connection in connections:
            connection.sendall(post(b"Content-Length: 60000") + b"x" * 50_000)
        assert router.serves()
        for connection in connections:
            answered(Answer(raw_http.read(connection)), 408, "request_timeout")
        assert time.monotonic() - began < 15


def test_a_body_that_drips(router: Service) -> None:
    with counted(router, "request_timeout"), raw_http.connect(router.url) as connection:
        connection.sendall(post(b"Content-Length: 1000"))
        assert raw_http.drip(connection, b" ", pause=0.2, seconds=10)
        answered(Answer(raw_http.read(connection)), 408, "request_timeout")


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/experiments/test/promote"])
def test_a_body_announced_too_large_is_refused_before_it_is_sent(router: Service, path: str) -> None:
    with counted(router, "body_too_large"):
        head = post(b"Content-Length: 50000000", b"Expect: 100-continue").replace(b"/v1/predict", path.encode())
        answered(ask(router.url, head), 413, "body_too_large")


def test_a_body_that_is_sent_all_the_same_gets_its_answer(router: Service) -> None:
    with counted(router, "body_too_large"):
        answered(ask(router.url, post(b"Content-Length: 50000000"), *[b" " * MEGABYTE] * 48), 413, "body_too_large")


def test_chunks_without_end(router: Service) -> None:
    with counted(router, "body_too_large"):
        chunk = b"%x\r\n%b\r\n" % (MEGABYTE, b" " * MEGABYTE)
        answered(ask(router.url, CHUNKED, *[chunk] * 100), 413, "body_too_large")


@pytest.mark.parametrize(
    "piece",
    [
        b"1;" + b"e" * MEGABYTE + b"\r\n \r\n",  # a chunk whose extension is nearly all of it
        b"0\r\nX-Trailer: " + b"t" * MEGABYTE,  # a trailer, which is never looked at
    ],
)
def test_a_chunked_body_that_is_all_framing(router: Service, piece: bytes) -> None:
    with counted(router, "body_too_large"):
        answered(ask(router.url, CHUNKED, piece, *[b"x" * MEGABYTE] * 50), 413, "body_too_large")


def test_chunks_that_stop(router: Service) -> None:
    with counted(router, "request_timeout"):
        answered(ask(router.url, CHUNKED, b"5\r\n     \r\n"), 408, "request_timeout")


def test_chunks_of_one_byte_with_trailers_are_a_body(router: Service) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in PREDICT)
    with raw_http.connect(router.url) as connection:
        raw_http.send(connection, [CHUNKED, chunks[:60], chunks[60:], b"0\r\nX-Trailer: t\r\n\r\n"], pause=0.01)
        assert raw_http.read(connection).startswith(b"HTTP/1.1 200")


def test_a_caller_that_leaves_in_the_middle(router: Service) -> None:
    with counted(router, "incomplete_request"), raw_http.connect(router.url) as connection:
        connection.sendall(post(b"Content-Length: 1000") + b"{")
    assert router.refused("incomplete_request") >= 1


def test_a_compressed_body_is_not_unpacked(router: Service) -> None:
    bomb = gzip.compress(b" " * 50_000_000)[: BODY - 1]
    with counted(router, "unsupported_encoding"):
        answer = ask(router.url, request("POST", "/v1/predict", b"Content-Encoding: gzip", body=bomb))
        answered(answer, 415, "unsupported_encoding")
        assert answer.headers["accept-encoding"] == "identity"


# Connections ----------------------------------------------------------------------------------------------------------


def test_three_hundred_idle_connections(service: Service) -> None:
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(raw_http.connect(service.url)) for _ in range(300)]
        assert service.serves()
        assert [raw_http.read(connection) for connection in connections] == [b""] * 300
        assert time.monotonic() - began < 15


def test_more_connections_than_there_may_be(service: Service) -> None:
    """Those that send nothing give way, and a good client is served at once."""
    before = service.refused("crowded_out")
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        for _ in range(600):
            stack.enter_context(raw_http.connect(service.url))
        assert service.serves()
        if time.monotonic() < began + 0.8:  # else some have timed out meanwhile
            assert service.refused("crowded_out") - before >= 600 - 512


# What is no HTTP, or ambiguous ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /metrics\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET \xe2\x82\xac HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nNo colon\r\n\r\n",
        post(b"Content-Length: 5", b"Content-Length: 6") + b"{}   ",
        post(b"Content-Length: 5", b"Content-Length: 5") + b"{}   ",
        post(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
        post(b"Content-Length: -1"),
        post(b"Content-Length: 99999999999999999999999"),
        post(b"Content-Length: 1e3"),
        CHUNKED + b"-1\r\n",
        CHUNKED + b"ffffffffffffffffff\r\n",
    ],
)
def test_what_is_no_http_is_answered_once_and_closed(service: Service, sent: bytes) -> None:
    with counted(service, "malformed_http"):
        answered(ask(service.url, sent), 400, "malformed_http")


def test_an_escaped_path_that_is_no_text_is_just_unknown(service: Service) -> None:
    assert ask(service.url, request("GET", "/%ff%fe")).status == 404


@pytest.mark.parametrize("headers", [[b"Upgrade: websocket", b"Connection: upgrade"], [b"Upgrade: h2c"]])
def test_an_upgrade_is_not_taken(service: Service, headers: list[bytes]) -> None:
    sent = b"\r\n".join([b"GET %b HTTP/1.1" % service.good.encode(), HOST.strip(), *headers, b"", b""])
    assert ask(service.url, sent).status == 200


# Methods and types ----------------------------------------------------------------------------------------------------

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
ROUTES = {
    "/v1/predict": "POST",
    "/v1/outcomes": "POST",
    "/v1/experiments/test/promote": "POST",
    "/v1/experiments/test": "GET, HEAD",
    "/healthz": "GET, HEAD",
    "/metrics": "GET, HEAD",
}


@pytest.mark.parametrize("path", ROUTES)
def test_another_method_is_told_the_right_one(router: Service, path: str) -> None:
    for method in METHODS:
        if method not in ROUTES[path]:
            answer = ask(router.url, request(method, path))
            assert (answer.status, answer.headers["allow"]) == (405, ROUTES[path]), method
            assert method == "HEAD" or answer.code == "method_not_allowed"


def test_another_method_on_the_port_of_the_metrics() -> None:
    with _metrics() as service:
        for method in METHODS[2:]:
            answer = ask(service.url, request(method, "/metrics"))
            assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD"), method


def test_head_is_get_without_its_body(service: Service) -> None:
    head, get = (ask(service.url, request(method, "/openapi.json")) for method in ("HEAD", "GET"))
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.body))


def test_traffic_is_json_whatever_its_type_says_and_commands_must_say_it(router: Service) -> None:
    form = b"Content-Type: application/x-www-form-urlencoded"
    assert ask(router.url, request("POST", "/v1/predict", form, body=PREDICT)).status == 200
    assert ask(router.url, request("POST", "/v1/predict", form, body=b"a=b")).code == "malformed_json"
    refused = ask(router.url, request("POST", "/v1/experiments/test/promote", form, body=b'{"reason": "form"}'))
    assert (refused.status, refused.code) == (400, "bad_request")
