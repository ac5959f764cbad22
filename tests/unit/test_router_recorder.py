"""Shadow scores on the router's own log: many in a record, and no record too large for a shared log."""

from __future__ import annotations

from pathlib import Path

from gauntlet import events, keys
from gauntlet.log.local import LocalLogReader, LocalLogWriter
from gauntlet.status import Problems
from router.recorder import RECORD_BYTES, Recorder


def scores(n: int, classes: int = 2) -> list[events.Shadow]:
    """Of three models in turn."""
    return [
        events.Shadow(
            id=f"p{i}",
            at=float(i),
            experiment="e",
            arm="challenger",
            model=f"v{i % 3}",
            output=[1.0 / classes] * classes,
            rollout=f"r{i % 3}",
        )
        for i in range(n)
    ]


def recorder(folder: Path) -> tuple[Recorder, LocalLogWriter, Problems]:
    writer, problems = LocalLogWriter(folder, "router", durable=False), Problems("router")
    return Recorder(writer, LocalLogReader(folder), "router", "fast", problems), writer, problems


async def test_scores_lie_in_few_records_of_a_bounded_size(tmp_path: Path) -> None:
    made, _, _ = recorder(tmp_path)
    small, wide = scores(3000), scores(4, classes=20_000)
    made.shadows(small)
    made.shadows(wide)
    await made.close()
    reader = LocalLogReader(tmp_path)
    records = await reader.read(keys.PREDICTIONS, "router", 0, 10_000)
    await reader.close()
    found = [events.decode(record.value) for record in records]
    assert all(isinstance(event, events.Shadows) for event in found)
    assert sorted((s for e in found for s in e.each()), key=lambda s: s.id) == sorted(small + wide, key=lambda s: s.id)
    sizes = [len(record.value) for record in records]
    assert max(sizes[:-4]) <= RECORD_BYTES
    assert len(sizes) - 4 < 2 * sum(sizes[:-4]) / RECORD_BYTES + 1
    assert min(sizes[-4:]) > RECORD_BYTES, "one score is not divided"
    assert [(r.key, r.at) for r in records] == [(e.id, e.at) for e in found]


async def test_each_score_that_is_lost_is_counted(tmp_path: Path) -> None:
    made, writer, problems = recorder(tmp_path)
    await writer.close()
    made.shadows(scores(7))
    await made.settled()
    assert "7 shadow scores are lost" in problems.open[0].text
    await made.close()
