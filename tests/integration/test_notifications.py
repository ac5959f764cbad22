"""Notices on their way to real local servers: signed, apprise's and handlers' own, tried again, given up, told once."""

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from builders import retraining_data
from builders.retraining_records import T0, Following, job
from builders.samples import sample
from standardwebhooks import Webhook, WebhookVerificationError

from gauntlet.config import NotifyConfig
from gauntlet.errors import ConfigError
from gauntlet.faults import Faults
from gauntlet.structured_logging import get_logger
from gauntlet.types import Severity
from retrainer import alerts
from retrainer.jobs.job_dir import Answer
from retrainer.notify.notifier import NOT_KEPT, UNDELIVERED, WAITS, Notifier
from retrainer.notify.targets import Target, targets
from retrainer.records import queries
from retrainer.records.recorder import Recorder
from retrainer.triggers.requests import RetrainRequest

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD = "whsec_" + base64.b64encode(bytes(range(100, 132))).decode()


class Receiver:
    """A server that keeps what it is sent, and answers with the next of `answers`, or 204."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status, headers = receiver.answers.pop(0) if receiver.answers else (204, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?team=a"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    built = Receiver()
    with built.server:
        thread = threading.Thread(target=built.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield built
        built.server.shutdown()
        thread.join()


class Telling(Following):
    """A notifier beside a recorder, over one store, with a clock that a test moves."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "local")
        self.now = 1_000_000.0

    def to(self, *told: Target, seconds: float = 30.0) -> Notifier:
        faults = Faults(self.problems, get_logger("test"))
        self.notifier = Notifier(
            self.config, self.store, self.state, faults, told, clock=lambda: self.now, seconds=seconds
        )
        registry = self.registry
        self.recorder = Recorder(self.config, self.store, self.state, registry, faults, self.notifier.deliveries)
        return self.notifier

    async def turn(self) -> None:
        await self.notifier.step()
        await self.notifier.rest()

    def alert(self, name: str, at: float = T0) -> None:
        self.store.alert(alerts.alert(name, at, self.config.experiment, f"{name} it is", job(1).id))
        self.store.commit()

    @property
    def open(self) -> list[str]:
        return [problem.code for problem in self.problems.open]


@pytest.fixture
async def telling(tmp_path: Path) -> AsyncIterator[Telling]:
    built = Telling(tmp_path)
    await retraining_data.lay(built.config, days=2, a_day=2)
    yield built
    built.store.close()
    await built.state.close()


class Heard:
    """A target that keeps what it is told, after failing as often as it was ordered to."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.notices: list[object] = []
        self.failures = failures
        self.error = error or ConnectionError("nobody home")

    def __call__(self, notice: object) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error
        self.notices.append(notice)

    @property
    def kinds(self) -> list[str]:
        return [notice.kind for notice in self.notices]  # type: ignore[attr-defined]


def counted(channel: str = "handler") -> list[float]:
    """Tries of the channel so far: sent, retried, failed."""
    name, labels = "gauntlet_notices_total", {"experiment": "turning", "channel": channel}
    return [sample(name, **labels, result=result) or 0.0 for result in ("sent", "retried", "failed")]


def target(name: str, heard: Heard, severity: Severity = Severity.LOW) -> Target:
    return Target(name, severity, heard)


async def test_alerts_decisions_and_requests_go_to_those_who_want_them(telling: Telling) -> None:
    everything, grave = Heard(), Heard()
    telling.to(target("all", everything), target("grave", grave, Severity.HIGH))
    telling.alert("candidate_worse")
    await telling.change("challenge", T0 + 1, version="v0002", **telling.stages)
    await telling.turn()
    assert everything.kinds == [], "what was before there was an outbox is not told"
    for name in ("training_timeout", "candidate_worse", "data_quality_low"):
        telling.alert(name, at=T0 + 1)
    telling.put(job(1))
    request = RetrainRequest(
        kind="rule", name="floor", id="r1", at=T0, severity=Severity.LOW, model=None, reason="low", mode="approve"
    )
    telling.store.open_request(request)
    await telling.change("promote", T0 + 2, evidence="look-1")
    await telling.change("rollback", T0 + 3)
    for _ in range(9):
        await telling.turn()
    assert sorted(everything.kinds) == [
        "approval_asked",
        "candidate_worse",
        "data_quality_low",
        "job_completed",
        "promote",
        "rollback",
        "training_timeout",
    ]
    assert sorted(grave.kinds) == ["data_quality_low", "rollback", "training_timeout"]
    told = {notice.kind: notice for notice in everything.notices}  # type: ignore[attr-defined]
    assert told["promote"].title == "turning: v0002 is the champion now"
    assert told["rollback"].title == "turning: v0002 is rolled back; v0001 serves"
    assert told["rollback"].text == "op: because"
    assert told["data_quality_low"].severity == "CRITICAL"

    await telling.recorder.step()
    log = telling.read(queries.deliveries)
    assert len(log) == 10
    assert {row["status"] for row in log} == {"sent"}


async def test_a_new_notifier_tells_nothing_twice_and_forgets_nothing(telling: Telling) -> None:
    first, heard = Heard(failures=1), Heard()
    telling.to(target("a", first))
    await telling.turn()
    telling.alert("training_timeout")
    await telling.turn()
    telling.alert("data_quality_low")
    telling.to(target("a", heard))  # as after kill -9
    telling.now += WAITS[0]
    for _ in range(4):
        await telling.turn()
    assert sorted(heard.kinds) == ["data_quality_low", "training_timeout"]


async def test_who_does_not_answer_is_tried_again_at_growing_distances_and_given_up(telling: Telling) -> None:
    deaf, heard, before = Heard(failures=100), Heard(), counted()
    telling.to(target("deaf", deaf), target("other", heard))
    await telling.turn()
    telling.alert("training_timeout")
    tries = []
    for wait in (*WAITS, 0.0):
        await telling.turn()
        tries.append(100 - deaf.failures)
        telling.now += wait - 0.5
        await telling.turn()
        telling.now += 0.5
    assert tries == list(range(1, len(WAITS) + 2)), "one a wait, and none before it is over"
    await telling.turn()
    assert 100 - deaf.failures == len(WAITS) + 1
    assert heard.kinds == ["training_timeout"], "the other has heard of it at once"
    await telling.recorder.step()
    log = {row["target"]: row for row in telling.read(queries.deliveries)}
    assert (log["deaf"]["status"], log["deaf"]["attempts"]) == ("dead", len(WAITS) + 1)
    assert log["deaf"]["error"] == "ConnectionError: nobody home"
    assert telling.open == [UNDELIVERED]
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1.0, len(WAITS), 1.0]
    deaf.failures = 0
    telling.alert("data_quality_low", at=T0 + 9)
    await telling.turn()
    assert telling.open == []


async def test_a_target_that_hangs_holds_up_nobody(telling: Telling) -> None:
    let_go, heard = threading.Event(), Heard()
    calls = []

    def hang(notice: object) -> None:
        calls.append(notice)
        let_go.wait(60)

    telling.to(Target("hangs", Severity.LOW, hang), target("other", heard), seconds=0.05)
    await telling.turn()
    telling.alert("training_timeout")
    telling.alert("data_quality_low", at=T0 + 1)
    async with asyncio.timeout(10):
        while UNDELIVERED not in telling.open or len(heard.kinds) < 2:
            await telling.notifier.step()
            await asyncio.sleep(0.01)
    telling.now += WAITS[0]
    await telling.notifier.step()
    assert len(calls) == 1, "never two calls at once"
    assert "no answer within 0.05 s" in telling.problems.open[0].text
    let_go.set()
    await telling.notifier.rest()
    for _ in range(3):
        await telling.turn()
    assert len(calls) == 3


async def test_a_signed_webhook_is_what_the_standard_says(telling: Telling, receiver: Receiver) -> None:
    settings = [NotifyConfig(name="hook", webhook=receiver.url, secret="HOOK", severity="LOW")]
    telling.to(*targets(settings, {"HOOK": f"{SECRET} {OLD}"}))
    receiver.answers = [(503, {}), (302, {"location": receiver.url}), (429, {"retry-after": "700"}), (204, {})]
    await telling.turn()
    telling.alert("training_timeout")
    for wait in (WAITS[0], WAITS[1], 700.0, 0.0):
        await telling.turn()
        telling.now += wait
    assert len(receiver.got) == 4, "a redirect is a failure, and Retry-After is honoured"
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    for secret in (SECRET, OLD):
        headers, body = receiver.got[-1]
        payload = Webhook(secret).verify(body, headers)
    assert payload["type"] == "gauntlet.training_timeout"
    assert payload["data"]["severity"] == "HIGH"
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", headers)
    receiver.answers = [(410, {})]
    telling.alert("data_quality_low")
    await telling.turn()
    await telling.recorder.step()
    log = {row["kind"]: (row["status"], row["attempts"], row["error"]) for row in telling.read(queries.deliveries)}
    assert log == {"training_timeout": ("sent", 4, None), "data_quality_low": ("dead", 1, "answered 410 Gone")}


async def test_a_receiver_that_is_down_gets_it_later(telling: Telling, receiver: Receiver) -> None:
    nowhere = NotifyConfig(name="hook", webhook="http://127.0.0.1:1/", secret="HOOK")
    telling.to(*targets([nowhere], {"HOOK": SECRET}))
    await telling.turn()
    telling.alert("training_timeout")
    await telling.turn()
    assert "ConnectionRefusedError" in telling.problems.open[0].text
    telling.to(*targets([msgspec.structs.replace(nowhere, webhook=receiver.url)], {"HOOK": SECRET}))
    telling.now += WAITS[0]
    await telling.turn()
    assert len(receiver.got) == 1


HANDLED: list[dict[str, object]] = []


def handler(notice: dict[str, object]) -> None:
    HANDLED.append(notice)


async def test_a_handler_of_ones_own_gets_a_mapping(telling: Telling) -> None:
    settings = [NotifyConfig(name="mine", handler=f"{__name__}:handler", severity="LOW")]
    telling.to(*targets(settings, {}))
    await telling.turn()
    telling.alert("training_timeout")
    await telling.turn()
    [told] = HANDLED
    assert (told["kind"], told["severity"], told["data"]) == ("training_timeout", "HIGH", {"job": job(1).id})


async def test_a_damaged_outbox_is_told_of_and_decisions_see_nothing(telling: Telling) -> None:
    heard = Heard()
    file = telling.data / "notices.db"
    file.write_bytes(b"no database" * 1000)
    stop = asyncio.Event()
    running = asyncio.create_task(telling.to(target("a", heard)).run(stop))
    async with asyncio.timeout(10):
        while telling.open != [NOT_KEPT]:
            await asyncio.sleep(0.01)
        assert str(file) in telling.problems.open[0].text
        file.unlink()
        while telling.open:
            await asyncio.sleep(0.01)
        telling.alert("training_timeout")
        while heard.kinds != ["training_timeout"]:
            await asyncio.sleep(0.01)
    stop.set()
    await running


@pytest.mark.parametrize(
    ("settings", "environ", "words"),
    [
        ({"apprise": "SLACK"}, {}, "the environment variable SLACK must hold the address"),
        ({"webhook": "http://h/", "secret": "S"}, {}, "the environment variable S must hold the webhook's secret"),
        ({"webhook": "http://h/", "secret": "S"}, {"S": "whsec_c2hvcnQ="}, "S must hold whsec_ and 24 to 64"),
        ({"webhook": "http://h/", "secret": "S"}, {"S": "hunter2!"}, "S must hold whsec_ and 24 to 64"),
        ({"handler": "math:nothing"}, {}, "math:nothing can't be imported"),
    ],
)
def test_what_cannot_be_told_is_refused_and_no_secret_is_shown(
    settings: dict[str, str], environ: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match="notify: ") as refused:
        targets([NotifyConfig(name="a", **settings)], environ)
    assert words in str(refused.value)
    assert not any(secret in str(refused.value) for secret in environ.values())


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # a plugin of apprise imports it
async def test_apprise_tells_any_service_it_knows(
    telling: Telling, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    address = receiver.url.replace("http://", "json://").partition("?")[0] + "?+X-Token=hidden"
    settings = [
        NotifyConfig(name="service", apprise="SERVICE", severity="LOW"),
        NotifyConfig(name="typo", apprise="TYPO", severity="LOW"),
    ]
    telling.to(*targets(settings, {"SERVICE": address, "TYPO": "slakc://a/b/c"}))
    receiver.answers = [(500, {})]
    await telling.turn()
    telling.alert("training_timeout")
    await telling.turn()
    [problem] = telling.problems.open
    assert "did not take it" in problem.text
    assert "TYPO holds no address that apprise knows" in problem.text
    for secret in ("slakc", "hidden"):
        assert secret not in problem.text + caplog.text
    telling.now += WAITS[0]
    await telling.turn()
    headers, body = receiver.got[-1]
    told = msgspec.json.decode(body)
    assert (told["title"], headers["x-token"]) == ("[HIGH] turning: training timeout", "hidden")
    assert "What to do: " in told["message"]


async def test_lineage_gets_the_runs_of_jobs_and_nothing_else(telling: Telling, receiver: Receiver) -> None:
    people, before = Heard(), counted("lineage")
    settings = [NotifyConfig(name="lineage", lineage=receiver.url, secret="TOKEN")]
    telling.to(*targets(settings, {"TOKEN": "let-me-in"}), target("people", people))
    await telling.turn()
    telling.put(job(1, status="pending", ended_at=None, answer=Answer()))
    telling.put(job(1, status="running", ended_at=None, answer=Answer()))
    await telling.turn()
    telling.put(job(1), job(2, status="failed", answer=Answer(error="no luck")))
    telling.alert("training_failed")
    for _ in range(3):
        await telling.turn()
    assert {headers["authorization"] for headers, _ in receiver.got} == {"Bearer let-me-in"}
    told = [msgspec.json.decode(body) for _, body in receiver.got]
    assert [run["eventType"] for run in told] == ["START", "COMPLETE", "FAIL"]
    started, completed, failed = told
    assert started["run"]["runId"] == completed["run"]["runId"] != failed["run"]["runId"]
    assert [str(UUID(run["run"]["runId"])) for run in told] == [run["run"]["runId"] for run in told]
    assert completed["job"] == {"namespace": "gauntlet", "name": "turning.retrain.default"}
    assert [found["facets"]["version"]["datasetVersion"] for found in completed["outputs"]] == ["v0002"]
    assert failed["run"]["facets"]["errorMessage"]["message"] == "no luck"
    assert sorted(people.kinds) == ["job_completed", "training_failed"]
    assert counted("lineage")[0] - before[0] == 3.0
