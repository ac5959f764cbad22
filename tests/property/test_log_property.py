"""The embedded log behaves as a list per topic, whatever the order of appends, reads, seeks, rolls and reopenings;
and keys go to the partitions that Kafka's own clients choose."""

import asyncio
import tempfile
from pathlib import Path

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gauntlet.log import Record, Stored
from gauntlet.log.local import LocalLogReader, LocalLogWriter
from gauntlet.log.partitioner import partitions

TOPICS = st.sampled_from(["predictions", "outcomes", "jobs"])
TIMES = st.floats(min_value=-1e6, max_value=1e10)
RECORDS = st.lists(
    st.builds(Record, TOPICS, st.text(st.characters(exclude_categories=["Cs"])), TIMES, st.binary(max_size=400)),
    max_size=12,
)


class LogIsAList(RuleBasedStateMachine):
    """Each step is done to the log and to a list per topic."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.model: dict[str, list[Stored]] = {}
        self.open()

    def open(self) -> None:
        self.writer = LocalLogWriter(self.root, "w", segment_bytes=20_000, durable=False)
        self.reader = LocalLogReader(self.root)

    def close(self) -> None:
        self.runner.run(self.writer.close())
        self.runner.run(self.reader.close())

    def teardown(self) -> None:
        self.close()
        self.runner.close()
        self.folder.cleanup()

    @rule(calls=st.lists(RECORDS, min_size=1, max_size=4))
    def append(self, calls: list[list[Record]]) -> None:
        async def together() -> None:
            await asyncio.gather(*map(self.writer.append, calls))

        self.runner.run(together())
        for topic, key, at, value in (record for call in calls for record in call):
            rows = self.model.setdefault(topic, [])
            rows.append(Stored(len(rows), key, at, value))

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()

    @rule(topic=TOPICS, data=st.data(), limit=st.integers(0, 30))
    def read(self, topic: str, data: st.DataObject, limit: int) -> None:
        rows = self.model.get(topic, [])
        offset = data.draw(st.integers(0, len(rows)))
        assert self.runner.run(self.reader.read(topic, "w", offset, limit)) == rows[offset : offset + limit]

    @rule(topic=TOPICS, at=TIMES, data=st.data())
    def seek(self, topic: str, at: float, data: st.DataObject) -> None:
        rows = self.model.get(topic, [])
        if rows:
            at = data.draw(st.sampled_from([at, *(row.at for row in rows)]))
        after = [row.offset for row in rows if row.at >= at]
        assert self.runner.run(self.reader.seek(topic, "w", at)) == (after[0] if after else len(rows))

    @rule(topic=TOPICS, data=st.data())
    def first(self, topic: str, data: st.DataObject) -> None:
        rows = self.model.get(topic, [])
        asked = data.draw(st.lists(st.sampled_from(["never", *(row.key for row in rows)]), unique=True))
        wanted = {row.key: row for row in reversed(rows) if row.key in asked}
        assert self.runner.run(self.reader.first(topic, "w", asked)) == wanted

    @rule(topic=TOPICS, least=st.integers(0, 30))
    def latest_keys(self, topic: str, least: int) -> None:
        names = [row.key for row in self.model.get(topic, [])]
        found = self.runner.run(self.reader.latest_keys(topic, "w", least))
        assert len(found) >= min(least, len(set(names)))
        assert any(set(found) == set(names[start:]) for start in range(len(names) + 1))

    @invariant()
    def ends_agree(self) -> None:
        for topic in ("predictions", "outcomes", "jobs"):
            assert self.runner.run(self.reader.end(topic, "w")) == len(self.model.get(topic, []))


TestLogIsAList = LogIsAList.TestCase
TestLogIsAList.settings = settings(max_examples=25, stateful_step_count=25, deadline=None, derandomize=True)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(keys=st.lists(st.binary(max_size=70), max_size=20), count=st.integers(1, 64))
def test_keys_go_where_kafka_clients_send_them(keys: list[bytes], count: int) -> None:
    choose = DefaultPartitioner()
    everywhere = list(range(count))
    assert partitions(keys, count) == [choose(key, everywhere, everywhere) for key in keys]
