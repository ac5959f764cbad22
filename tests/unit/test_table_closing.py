"""A CSV file that is given up while Arrow's thread reads ahead: no file is closed under a read."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from gauntlet.table import open_table


class SlowStream:
    """A file whose reads take a while; notes whether it was closed during one."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.reading = threading.Event()
        self.closed_in_read = False

    @property
    def closed(self) -> bool:
        return bool(self._stream.closed)

    def read(self, size: int) -> bytes:
        self.reading.set()
        time.sleep(0.02)
        block: bytes = self._stream.read(size)
        self.reading.clear()
        return block

    def close(self) -> None:
        self.closed_in_read |= self.reading.is_set()
        self._stream.close()


def test_closing_waits_for_the_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.csv"
    path.write_text("a\n" + "".join(f"{i}.25\n" for i in range(400_000)), encoding="utf-8")
    table = open_table(path)
    opened: list[SlowStream] = []
    input_stream = pa.input_stream

    def slow(name: str, **options: Any) -> SlowStream:
        opened.append(SlowStream(input_stream(name, **options)))
        return opened[-1]

    monkeypatch.setattr(pa, "input_stream", slow)
    for _ in range(5):
        chunks = iter(table.chunks(["a"], [], rows=100))
        next(chunks)
        chunks.close()
    assert len(opened) >= 5
    assert not any(stream.closed_in_read for stream in opened)
