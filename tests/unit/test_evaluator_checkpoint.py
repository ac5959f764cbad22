"""The checkpoint: all of a commit or nothing of it, one writer, and an outbox that outlives a crash."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest
from builders.evaluator_events import HORIZON, prediction

from evaluator.service.checkpoint import Checkpoint, EvaluatorState
from evaluator.service.join import JoinTable
from gauntlet.errors import Conflict
from gauntlet.log import Record

LETTERS = [Record("evaluations", "a/1", 5.0, b"one"), Record("drift", "b", 6.0, b"\x00\xff")]


def data(number: int) -> bytes:
    return msgspec.json.encode(EvaluatorState(commit=number, offsets={"predictions/a": 10 * number}))


def test_a_commit_is_all_there_after_reopening(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "deep" / "e.db")
    assert first.saved == EvaluatorState()
    table = JoinTable(first.db, HORIZON)
    first.begin()
    table.apply([prediction(1, 5.0)])
    first.commit(data(1), 1, LETTERS, after=0)
    first.close()
    second = Checkpoint(tmp_path / "deep" / "e.db")
    assert (second.saved.commit, second.saved.offsets) == (1, {"predictions/a": 10})
    assert len(JoinTable(second.db, HORIZON)) == 1
    assert [record for _, record in second.outbox()] == LETTERS
    second.close()


def test_a_crash_before_the_commit_leaves_nothing_of_it(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path / "e.db")
    table = JoinTable(first.db, HORIZON)
    first.commit(data(1), 1, [], after=0)
    first.begin()
    table.apply([prediction(1, 5.0)])
    first.begin()  # the same transaction goes on
    table.apply([prediction(2, 6.0)])
    first.close()
    second = Checkpoint(tmp_path / "e.db")
    assert second.saved.commit == 1
    assert len(JoinTable(second.db, HORIZON)) == 0
    assert second.outbox() == []
    second.close()


def test_an_error_in_the_work_undoes_the_joins_too(tmp_path: Path) -> None:
    one = Checkpoint(tmp_path / "e.db")
    table = JoinTable(one.db, HORIZON)
    with pytest.raises(RuntimeError, match="broken"), one.undone_on_error():  # noqa: PT012
        one.begin()
        table.apply([prediction(1, 5.0)])
        raise RuntimeError("broken")
    assert not one.db.in_transaction
    assert len(table) == 0
    one.close()


def test_the_fence_lets_one_of_two_commit_and_undoes_the_other(tmp_path: Path) -> None:
    first, second = Checkpoint(tmp_path / "e.db"), Checkpoint(tmp_path / "e.db")
    table = JoinTable(second.db, HORIZON)
    first.commit(data(1), 1, [], after=0)
    second.begin()
    table.apply([prediction(1, 5.0)])
    with pytest.raises(Conflict, match="another evaluator has made commit 1"):
        second.commit(data(1), 1, LETTERS, after=0)
    assert not second.db.in_transaction
    assert (len(table), second.outbox()) == (0, [])
    first.commit(data(2), 2, [], after=1)
    first.close()
    second.close()


def test_a_file_that_another_is_writing_is_a_conflict_not_a_crash(tmp_path: Path) -> None:
    first, second = Checkpoint(tmp_path / "e.db"), Checkpoint(tmp_path / "e.db")
    second.db.execute("PRAGMA busy_timeout=0")
    first.begin()
    with pytest.raises(Conflict, match="another evaluator"):
        second.begin()
    first.close()
    second.begin()
    second.close()


def test_other_trouble_with_the_file_is_reported_as_it_is(tmp_path: Path) -> None:
    one = Checkpoint(tmp_path / "e.db")
    one.close()
    with pytest.raises(sqlite3.ProgrammingError):
        one.begin()


def test_what_was_not_sent_is_there_until_it_is_and_in_order(tmp_path: Path) -> None:
    one = Checkpoint(tmp_path / "e.db")
    one.commit(data(1), 1, LETTERS[:1], after=0)
    one.commit(data(2), 2, LETTERS[1:], after=1)
    waiting = one.outbox()
    assert [record for _, record in waiting] == LETTERS
    one.sent(waiting[0][0])
    assert [record for _, record in one.outbox()] == LETTERS[1:]
    one.sent(waiting[1][0])
    one.commit(data(3), 3, LETTERS[:1], after=2)
    assert one.outbox()[0][0] > waiting[1][0]  # a number is never used twice: `sent` can't take a newer one along
    one.close()


def test_forgetting_the_outbox_is_part_of_the_commit(tmp_path: Path) -> None:
    one = Checkpoint(tmp_path / "e.db")
    one.commit(data(1), 1, LETTERS, after=0)
    one.begin()
    one.forget_outbox()
    one.close()
    one = Checkpoint(tmp_path / "e.db")
    assert len(one.outbox()) == 2
    one.begin()
    one.forget_outbox()
    one.commit(data(2), 2, LETTERS[:1], after=1)
    assert [record for _, record in one.outbox()] == LETTERS[:1]
    one.close()


def test_saved_survives_json_with_its_records() -> None:
    saved = EvaluatorState(commit=3, outbox=LETTERS, latest={"predictions/a": 1.5})
    again = msgspec.json.decode(msgspec.json.encode(saved), type=EvaluatorState)
    assert again == saved
    assert isinstance(again.outbox[0], Record)
