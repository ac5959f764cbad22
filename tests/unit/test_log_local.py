"""The embedded log's own promises: one writer, no holes after SIGKILL, rolling under readers, retention by whole files.
Invariant: what these tests kill is a real process, and what they read are its real files."""

import asyncio
import signal
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from gauntlet.errors import DamagedFile, LogUnavailable
from gauntlet.keys import OUTCOMES, PREDICTIONS
from gauntlet.log import Record, Stored, segments
from gauntlet.log.local import LocalLogReader, LocalLogWriter

ROOT = str(Path(__file__).parents[2])
SMALL = 32 * 2**10  # bytes of a segment: a few dozen records


def records(numbers: range, topic: str = PREDICTIONS, size: int = 300) -> list[Record]:
    return [Record(topic, f"key-{n % 5}", float(n), b"%d" % n + b" " * size) for n in numbers]


def number(row: Stored) -> int:
    return int(row.value)


async def read_all(reader: LocalLogReader, topic: str = PREDICTIONS, start: int = 0, limit: int = 100) -> list[Stored]:
    rows: list[Stored] = []
    while more := await reader.read(topic, "router", start + len(rows), limit):
        rows += more
    return rows


def files(root: Path) -> list[Path]:
    return sorted((root / "router").glob("*.db"))


def open_databases(root: Path) -> set[str]:
    """The segments that this process has open, as the kernel sees it."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists this folder
            found.add(str(descriptor.readlink()))
    return {name for name in found if name.startswith(str(root)) and name.endswith(".db")}


async def test_a_second_writer_of_the_same_folder_is_refused(tmp_path: Path) -> None:
    first = LocalLogWriter(tmp_path, "router")
    with pytest.raises(LogUnavailable, match=r"another writer of the log \(process \d+\) works in .*router") as caught:
        LocalLogWriter(tmp_path, "router")
    assert caught.value.code == "log_locked"
    other = LocalLogWriter(tmp_path, "evaluator")
    await other.close()
    await first.close()
    again = LocalLogWriter(tmp_path, "router")
    await again.append(records(range(1)))
    await again.close()


APPEND = """
import asyncio, sys
from pathlib import Path
from typing import Any
from gauntlet.log import Record
from gauntlet.log.local import LocalLogWriter

async def main():
    writer = LocalLogWriter(Path(sys.argv[1]), "router", segment_bytes=200_000)
    async def append(task):
        for n in range(1_000_000):
            pair = (2 * n, 2 * n + 1)
            await writer.append([Record("predictions", str(task), 0.0, b"%d" % i + b"x" * 200) for i in pair])
            print(task, pair[1], flush=True)
    await asyncio.gather(*(append(task) for task in range(4)))

asyncio.run(main())
"""


async def test_after_sigkill_everything_acknowledged_is_there_without_holes(tmp_path: Path) -> None:
    """Scenario: SIGKILL in the middle of group commits, across several segments; read before anybody repairs anything.
    Expected: every acknowledged record, whole calls only, dense offsets; the next writer goes on from there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", APPEND, str(tmp_path), env={"PYTHONPATH": ROOT}, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    reader = LocalLogReader(tmp_path)
    acknowledged = dict.fromkeys(range(4), -1)
    try:
        while len(files(tmp_path)) < 3:
            task, last = map(int, (await process.stdout.readline()).split())
            acknowledged[task] = last
        await reader.read(PREDICTIONS, "router", 0, 10)  # a reader holds files open while the writer dies
        process.send_signal(signal.SIGKILL)
        for line in (await process.stdout.read()).splitlines(keepends=True):
            if line.endswith(b"\n"):
                task, last = map(int, line.split())
                acknowledged[task] = last
    finally:
        if process.returncode is None:
            await process.wait()
    assert process.returncode == -signal.SIGKILL

    late = LocalLogReader(tmp_path)
    for each in (reader, late):
        rows = await read_all(each)
        assert [row.offset for row in rows] == list(range(len(rows)))
        assert await each.end(PREDICTIONS, "router") == len(rows)
        for task in range(4):
            found = [int(row.value.rstrip(b"x")) for row in rows if row.key == str(task)]
            assert found == list(range(len(found)))
            assert len(found) % 2 == 0
            assert found[-1] >= acknowledged[task] > 0

    writer = LocalLogWriter(tmp_path, "router")
    await writer.append(records(range(1)))
    await writer.close()
    assert (await late.read(PREDICTIONS, "router", len(rows), 10))[0].offset == len(rows)
    await reader.close()
    await late.close()


async def test_segments_roll_while_a_reader_reads(tmp_path: Path) -> None:
    writer, reader = LocalLogWriter(tmp_path, "router", segment_bytes=SMALL, durable=False), LocalLogReader(tmp_path)

    async def write() -> None:
        for start in range(0, 2000, 20):
            await writer.append(records(range(start, start + 20)))

    writing = asyncio.create_task(write())
    rows: list[Stored] = []
    while len(rows) < 2000:
        rows += await reader.read(PREDICTIONS, "router", len(rows), 50)
    await writing
    assert [number(row) for row in rows] == list(range(2000))
    assert len(files(tmp_path)) > 10
    assert await read_all(reader, limit=333) == rows  # again, now across closed segments
    for at in (0, 1, 777, 1999):
        assert await reader.seek(PREDICTIONS, "router", at) == at
    assert await reader.seek(PREDICTIONS, "router", 2000) == 2000
    await writer.close()
    await reader.close()


@pytest.mark.parametrize("followed", [False, True])
async def test_closed_segments_are_whole_and_open_read_only(tmp_path: Path, followed: bool) -> None:
    """Also when a reader has each file open at the time when it is closed, which keeps SQLite from tidying up."""
    writer = LocalLogWriter(tmp_path, "router", segment_bytes=SMALL, durable=False)
    reader = LocalLogReader(tmp_path)
    for start in range(0, 300, 20):
        await writer.append(records(range(start, start + 20)))
        if followed:
            assert len(await reader.read(PREDICTIONS, "router", start, 100)) == 20
    await writer.close()
    assert len(files(tmp_path)) > 3
    assert followed or not [*(tmp_path / "router").glob("*-wal"), *(tmp_path / "router").glob("*-shm")]
    found = 0
    for path in files(tmp_path)[:-1]:  # `immutable` ignores a WAL: what it shows is in the file itself
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
            found += db.execute("SELECT count(*) FROM predictions").fetchone()[0]
            last = db.execute("SELECT offset FROM log_ends").fetchone()[0]
        assert found == last
    assert len(await read_all(reader)) == 300
    await reader.close()


async def test_retention_unlinks_whole_old_files(tmp_path: Path) -> None:
    """What retention took is an error with a code of its own, not a shorter answer."""
    writer = LocalLogWriter(tmp_path, "router", segment_bytes=SMALL, retain_bytes=3 * SMALL, durable=False)
    reader = LocalLogReader(tmp_path)
    await writer.append(records(range(20)))
    assert len(await read_all(reader)) == 20
    for start in range(20, 2000, 20):
        await writer.append(records(range(start, start + 20)))
    kept = files(tmp_path)
    assert int(kept[0].stem) > 0
    assert sum(path.stat().st_size for path in kept[:-1]) <= 3 * SMALL
    stray = {path.name.split("-")[0] for path in (tmp_path / "router").glob("*.db-*")} - {path.name for path in kept}
    assert not stray

    for lost in (0, 20, 100):
        with pytest.raises(LogUnavailable) as caught:
            await reader.read(PREDICTIONS, "router", lost, 10)
        assert caught.value.code == "offset_lost"
    first = await reader.seek(PREDICTIONS, "router", float("-inf"))
    assert first > 100
    assert [number(row) for row in await read_all(reader, start=first)] == list(range(first, 2000))
    assert await reader.end(PREDICTIONS, "router") == 2000
    await writer.close()
    await reader.close()


async def test_a_silent_topic_keeps_its_end_when_its_segments_are_gone(tmp_path: Path) -> None:
    writer = LocalLogWriter(tmp_path, "router", segment_bytes=SMALL, retain_bytes=1, durable=False)
    await writer.append(records(range(7), OUTCOMES))
    for start in range(0, 1000, 20):
        await writer.append(records(range(start, start + 20)))
    await writer.close()
    assert "00000000.db" not in [path.name for path in files(tmp_path)]
    reader = LocalLogReader(tmp_path)
    assert await reader.end(OUTCOMES, "router") == 7
    assert await reader.read(OUTCOMES, "router", 7, 10) == []
    with pytest.raises(LogUnavailable):
        await reader.read(OUTCOMES, "router", 3, 10)
    writer = LocalLogWriter(tmp_path, "router")
    await writer.append(records(range(1), OUTCOMES))
    assert [row.offset for row in await reader.read(OUTCOMES, "router", 7, 10)] == [7]
    await writer.close()
    await reader.close()


@pytest.mark.parametrize("whole", [False, True])
async def test_offsets_go_on_past_an_empty_newest_segment(tmp_path: Path, whole: bool) -> None:
    """Scenario: the process died while it made the next file, or right after. Expected: nobody notices."""
    writer = LocalLogWriter(tmp_path, "router")
    await writer.append(records(range(10)))
    await writer.append(records(range(2), OUTCOMES))
    await writer.close()
    following = tmp_path / "router" / "00000001.db"
    if whole:
        segments.make(following, {PREDICTIONS: 10, OUTCOMES: 2})
    else:
        for name in ("00000001.new", "00000001.new-journal"):
            following.with_name(name).write_bytes(b"half of something")
    reader = LocalLogReader(tmp_path)
    assert len(await read_all(reader)) == 10
    assert await reader.end(OUTCOMES, "router") == 2
    writer = LocalLogWriter(tmp_path, "router", segment_bytes=1)
    await writer.append(records(range(10, 12)))
    await writer.append(records(range(2, 3), OUTCOMES))
    assert len(files(tmp_path)) > 1
    assert not list(following.parent.glob("*.new*"))
    assert [number(row) for row in await read_all(reader)] == list(range(12))
    assert [number(row) for row in await read_all(reader, OUTCOMES)] == [0, 1, 2]
    await writer.close()
    await reader.close()


@pytest.mark.parametrize("topic", ["", "a b", 'x"; DROP TABLE log_ends; --', "log_ends", "Predictions", "-x", "ä"])
async def test_malformed_topics_are_refused(tmp_path: Path, topic: str) -> None:
    writer, reader = LocalLogWriter(tmp_path, "router"), LocalLogReader(tmp_path)
    with pytest.raises(ValueError, match="topic"):
        await writer.append([*records(range(1)), Record(topic, "key", 0.0, b"x")])
    for call in (reader.read(topic, "router", 0, 1), reader.end(topic, "router"), reader.seek(topic, "router", 0.0)):
        with pytest.raises(ValueError, match="topic"):
            await call
    assert await reader.end(PREDICTIONS, "router") == 0
    await writer.close()
    await reader.close()


async def test_one_callers_bad_record_does_not_hurt_its_neighbours(tmp_path: Path) -> None:
    """All these calls go into one commit, since none lets the writer's thread run before the last is queued."""
    writer, reader = LocalLogWriter(tmp_path, "router"), LocalLogReader(tmp_path)
    bad = [
        Record(PREDICTIONS, "key", float("nan"), b"no time"),
        Record(PREDICTIONS, "\ud800", 0.0, b"no text"),
        Record(PREDICTIONS, "key", 0.0, None),  # type: ignore[arg-type]
    ]
    calls = [[record] for record in [*records(range(3)), *bad, *records(range(3, 6))]]
    results = await asyncio.gather(*map(writer.append, calls), return_exceptions=True)
    assert [isinstance(result, LogUnavailable) for result in results] == [False] * 3 + [True] * 3 + [False] * 3
    rows = await read_all(reader)
    assert [number(row) for row in rows] == list(range(6))
    assert [row.offset for row in rows] == list(range(6))
    await writer.close()
    await reader.close()


async def test_a_full_disk_refuses_whole_calls_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's page limit answers just as a full disk does (SQLITE_FULL)."""
    connections: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def connected(*given: Any, **named: Any) -> sqlite3.Connection:
        connections.append(connect(*given, **named))
        return connections[-1]

    monkeypatch.setattr(sqlite3, "connect", connected)
    writer, reader = LocalLogWriter(tmp_path, "router"), LocalLogReader(tmp_path)
    await writer.append(records(range(10)))
    written = connections[-1]
    written.execute("PRAGMA max_page_count=20")
    with pytest.raises(LogUnavailable, match="full"):
        await writer.append(records(range(10, 1000)))
    assert await reader.end(PREDICTIONS, "router") == 10
    written.execute("PRAGMA max_page_count=100000")
    await writer.append(records(range(10, 1000)))
    assert [number(row) for row in await read_all(reader)] == list(range(1000))
    await writer.close()
    await reader.close()


async def test_a_roll_that_fails_loses_nothing(tmp_path: Path) -> None:
    """Scenario: the next file can't be made (here a folder has its name). Expected: appends fail until it can."""
    writer, reader = LocalLogWriter(tmp_path, "router", segment_bytes=SMALL, durable=False), LocalLogReader(tmp_path)
    (tmp_path / "router" / "00000001.db").mkdir()
    await writer.append(records(range(200)))
    for _ in range(2):
        with pytest.raises(LogUnavailable):
            await writer.append(records(range(200, 210)))
    (tmp_path / "router" / "00000001.db").rmdir()
    await writer.append(records(range(200, 210)))
    assert [number(row) for row in await read_all(reader)] == list(range(210))
    await writer.close()
    await reader.close()


async def test_a_cancelled_caller_does_not_disturb_the_others(tmp_path: Path) -> None:
    writer, reader = LocalLogWriter(tmp_path, "router"), LocalLogReader(tmp_path)
    calls = [asyncio.create_task(writer.append(records(range(n, n + 1)))) for n in range(10)]
    await asyncio.sleep(0)
    calls[3].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results].count(asyncio.CancelledError) == 1
    assert [number(row) for row in await read_all(reader)] == list(range(10))
    await writer.close()
    await reader.close()


async def test_closing_commits_what_was_appended(tmp_path: Path) -> None:
    writer, reader = LocalLogWriter(tmp_path, "router"), LocalLogReader(tmp_path)
    calls = [asyncio.create_task(writer.append(records(range(n, n + 1)))) for n in range(10)]
    await asyncio.sleep(0)
    await writer.close()
    await asyncio.gather(*calls)
    assert len(await read_all(reader)) == 10
    await reader.close()


@pytest.mark.parametrize("indexed", [[], [PREDICTIONS]])
async def test_known_keys_are_found_in_every_segment(tmp_path: Path, indexed: list[str]) -> None:
    writer, reader = LocalLogWriter(tmp_path, "router", segment_bytes=1, indexed=indexed), LocalLogReader(tmp_path)
    for n in range(8):
        await writer.append([Record(PREDICTIONS, f"key-{n}", 0.0, b"x"), Record(OUTCOMES, f"other-{n}", 0.0, b"x")])
    asked = [*(f"key-{n}" for n in range(1200)), "other-3", "key-3"]
    assert await reader.known(PREDICTIONS, "router", asked) == {f"key-{n}" for n in range(8)}
    assert await reader.known(PREDICTIONS, "router", []) == set()
    assert await reader.known(PREDICTIONS, "nobody", ["key-1"]) == set()
    with closing(sqlite3.connect(files(tmp_path)[-1])) as db:
        plan = str(db.execute("EXPLAIN QUERY PLAN SELECT key FROM predictions WHERE key IN ('a', 'b')").fetchall())
    assert ("USING COVERING INDEX" in plan) == bool(indexed)
    await writer.close()
    await reader.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc, which is Linux's")
async def test_a_reader_keeps_few_files_open(tmp_path: Path) -> None:
    writer, reader = LocalLogWriter(tmp_path, "router", segment_bytes=1), LocalLogReader(tmp_path)
    for n in range(40):
        await writer.append(records(range(n, n + 1)))
    await writer.close()
    assert len(files(tmp_path)) >= 39
    await read_all(reader, limit=3)
    assert 1 <= len(open_databases(tmp_path)) <= 8
    await reader.close()
    assert not open_databases(tmp_path)


async def test_a_damaged_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "router").mkdir()
    (tmp_path / "router" / "00000000.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(DamagedFile, match=r"router/00000000\.db can't be read: .*; restore it from a backup"):
        LocalLogWriter(tmp_path, "router")
    reader = LocalLogReader(tmp_path)
    with pytest.raises(LogUnavailable, match=r"cannot read the log's file .*router/00000000\.db: .*; restore it"):
        await reader.read(PREDICTIONS, "router", 0, 1)
    await reader.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the folders are polled")
async def test_a_reader_waits_for_the_writers_that_it_names(tmp_path: Path) -> None:
    """Whoever reads evaluations only is not woken by each request."""
    router, evaluator = LocalLogWriter(tmp_path, "router"), LocalLogWriter(tmp_path, "evaluator")
    anybody, named = LocalLogReader(tmp_path), LocalLogReader(tmp_path, ["evaluator"])
    waiting = asyncio.create_task(named.wait(600))
    for start in range(3):
        hint = asyncio.create_task(anybody.wait(600))
        await asyncio.sleep(0)  # it listens
        await router.append(records(range(start, start + 1)))
        await hint
    assert not waiting.done()
    await evaluator.append(records(range(1)))
    await waiting
    for each in (router, evaluator, anybody, named):
        await each.close()
