"""Wake on change: a waiter sleeps until a file in its folders changes, and misses no change."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gauntlet import folder_watch
from gauntlet.folder_watch import FolderWatch

SOON = 30.0  # what a loaded machine may take to wake a waiter
NEVER = 3600.0

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a watch only takes time")


@pytest.fixture
def one() -> Iterator[FolderWatch]:
    made = FolderWatch()
    yield made
    made.close()


async def waiting(one: FolderWatch, *folders: Path) -> asyncio.Task[None]:
    """A waiter that sleeps already."""
    task = asyncio.create_task(one.wait(folders, NEVER))
    await asyncio.sleep(0)
    return task


@linux
async def test_every_kind_of_change_wakes(one: FolderWatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    for change in (
        lambda: file.write_bytes(b"made"),
        lambda: file.open("r+b").close() or file.write_bytes(b"longer"),
        lambda: file.rename(tmp_path / "other"),
        lambda: (tmp_path / "other").unlink(),
        lambda: (tmp_path / "folder").mkdir(),
    ):
        task = await waiting(one, tmp_path)
        change()
        await asyncio.wait_for(task, SOON)


@linux
async def test_every_waiter_wakes_and_a_change_before_the_wait_counts(one: FolderWatch, tmp_path: Path) -> None:
    await one.wait([tmp_path], 0.0)
    (tmp_path / "before").touch()
    tasks = [await waiting(one, tmp_path) for _ in range(3)]
    await asyncio.wait_for(asyncio.gather(*tasks), SOON)


@linux
async def test_a_change_that_comes_while_another_is_told_of_is_not_lost(one: FolderWatch, tmp_path: Path) -> None:
    """A writer that never rests, and a reader that counts what it saw after each wait: it sees the last write."""
    file = tmp_path / "file"
    file.touch()

    async def write() -> None:
        for _ in range(300):
            with file.open("ab") as end:
                end.write(b"x")
            await asyncio.sleep(0.001)

    writing = asyncio.create_task(write())
    async with asyncio.timeout(SOON):
        while file.stat().st_size < 300:
            await one.wait([tmp_path], NEVER)
    await writing


@linux
async def test_a_burst_is_one_hint(one: FolderWatch, tmp_path: Path) -> None:
    task = await waiting(one, tmp_path)
    for number in range(100):
        (tmp_path / str(number)).touch()
    await asyncio.wait_for(task, SOON)
    before = asyncio.get_running_loop().time()
    await one.wait([tmp_path], 0.1)
    assert asyncio.get_running_loop().time() - before >= 0.09


@linux
async def test_a_folder_that_comes_later_or_is_replaced_is_seen(one: FolderWatch, tmp_path: Path) -> None:
    folder = tmp_path / "later"
    await asyncio.wait_for(one.wait([folder], NEVER), SOON)  # nothing to watch yet: looks again by itself
    for _ in range(2):
        folder.mkdir()
        task = await waiting(one, folder)
        (folder / "file").touch()
        await asyncio.wait_for(task, SOON)
        (folder / "file").unlink()
        folder.rmdir()
        await asyncio.wait_for(one.wait([folder], NEVER), SOON)


async def test_without_the_kernel_a_wait_is_a_short_pause(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(folder_watch.sys, "platform", "another")
    one = FolderWatch()
    monkeypatch.undo()
    await asyncio.wait_for(one.wait([tmp_path], NEVER), SOON)
    one.close()
