"""The launchers of real parts, each driven by a real client: they answer, and they come back from an outage."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from subprocess import CompletedProcess
from uuid import uuid4

import parts
import prometheus_client
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

MESSAGES = 1000
PARTITIONS = 4


async def create_topic(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1)])
    finally:
        await admin.close()


async def produce(bootstrap: str, topic: str, numbers: range) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5)
    await producer.start()
    try:
        for sent in [await producer.send(topic, b"%d" % n, partition=n % PARTITIONS) for n in numbers]:
            await sent
    finally:
        await producer.stop()


async def consume(bootstrap: str, topic: str) -> list[int]:
    """Every message of the topic up to its present end."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[int] = []
        while len(found) < sum(ends.values()):
            batches = await consumer.getmany(timeout_ms=1000)
            found += [int(record.value) for batch in batches.values() for record in batch]
        return found
    finally:
        await consumer.stop()


async def test_kafka_keeps_its_messages_through_a_stop_and_a_crash(kafka: parts.Kafka) -> None:
    topic = f"parts-{uuid4().hex}"
    await create_topic(kafka.bootstrap, topic)
    await produce(kafka.bootstrap, topic, range(MESSAGES))
    assert sorted(await consume(kafka.bootstrap, topic)) == list(range(MESSAGES))

    with kafka.outage():
        assert not kafka.running
    assert sorted(await consume(kafka.bootstrap, topic)) == list(range(MESSAGES))

    await produce(kafka.bootstrap, topic, range(MESSAGES, 2 * MESSAGES))
    with kafka.outage(crash=True):
        pass
    assert sorted(await consume(kafka.bootstrap, topic)) == list(range(2 * MESSAGES))


COMPARE_AND_SET = """
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1] + 1, 'document', ARGV[2])
return 1
"""


def test_redis_compares_and_sets_in_lua_and_keeps_it_through_a_crash(redis_server: parts.Redis) -> None:
    key = f"parts:{uuid4().hex}"
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        client.hset(key, mapping={"version": 1, "document": "first"})
        swap = client.register_script(COMPARE_AND_SET)
        assert swap(keys=[key], args=[1, "second"]) == 1
        assert swap(keys=[key], args=[1, "stale"]) == 0
    with redis_server.outage(crash=True), pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(redis_server.url, retry=None).ping()
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        assert client.hgetall(key) == {"version": "2", "document": "second"}


def test_a_frozen_redis_hangs_and_then_goes_on(redis_server: parts.Redis) -> None:
    with redis.Redis.from_url(redis_server.url, socket_timeout=0.2, retry=None) as client:
        with redis_server.frozen(), pytest.raises(redis.TimeoutError):
            client.ping()
        assert client.ping()


def test_postgres_answers_and_keeps_its_rows_through_a_stop(postgres: parts.Postgres) -> None:
    postgres.query("create schema kept; create table kept.jobs (id int primary key, metrics jsonb)")
    postgres.query("""insert into kept.jobs values (1, '{"auc": 0.75}')""")
    with pytest.raises(parts.PartError, match="duplicate key"):
        postgres.query("insert into kept.jobs values (1, '{}')")
    with postgres.outage():
        pass
    assert postgres.query("select metrics->>'auc' from kept.jobs") == "0.75"


def test_prometheus_scrapes_a_target_and_answers_queries(prometheus: parts.Prometheus) -> None:
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Gauge("parts_share", "A share.", ["arm"], registry=registry).labels("challenger").set(0.05)
    server, thread = prometheus_client.start_http_server(0, addr="127.0.0.1", registry=registry)
    began = time.time()
    try:
        prometheus.load(parts.scrape_config({"router": [f"127.0.0.1:{server.server_port}"]}))
        [sample] = prometheus.await_samples('parts_share{arm="challenger"}')
        assert (sample.value, sample.labels["job"]) == (0.05, "router")
        [series] = prometheus.query_range("parts_share", start=began, end=sample.time + 1.0, step=0.1)
        assert {value for _, value in series.points} == {0.05}
        assert [one.value for one in prometheus.query("1 + 1")] == [2.0]
        assert prometheus.query("parts_nothing") == []
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    with pytest.raises(parts.PartError, match="parse error"):
        prometheus.query("sum(")
    with pytest.raises(parts.PartError, match="refused the configuration"):
        prometheus.load("scrape_configs: 7")


def test_promtool_tells_good_rules_from_bad(
    promtool: Callable[..., CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rules = tmp_path_factory.mktemp("rules") / "rules.yml"
    rules.write_text("groups: [{name: g, rules: [{record: a:b, expr: sum(a)}]}]")
    assert promtool("check", "rules", str(rules)).returncode == 0
    rules.write_text("groups: [{name: g, rules: [{record: a:b, expr: sum(}]}]")
    assert promtool("check", "rules", str(rules)).returncode != 0


PAGE = b"""<!doctype html><title>parts</title><body style="background:#0a0"><p id="said">before</p><script>
setTimeout(() => { document.getElementById("said").textContent = "1 + 1 = " + (1 + 1); }, 500);
console.log("the script ran");
notDefined();
</script>"""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(PAGE if self.path == "/" else b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_chromium_runs_the_scripts_and_dumps_the_dom(chromium: parts.Chromium, page_url: str) -> None:
    page = chromium.visit(page_url)
    assert '<p id="said">1 + 1 = 2</p>' in page.dom
    assert "the script ran" in page.console
    assert any("notDefined is not defined" in line for line in page.console)


def test_chromium_takes_a_screenshot_of_the_asked_size(
    chromium: parts.Chromium, page_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from matplotlib.image import imread

    picture = imread(
        chromium.screenshot(page_url, tmp_path_factory.mktemp("shots") / "page.png", width=640, height=400)
    )
    assert picture.shape[:2] == (400, 640)
    assert [round(float(level) * 255) for level in picture[390, 630, :3]] == [0, 0xAA, 0]
