"""The records on SQLite and on a real PostgreSQL alike: migrations, upserts, the recorder, the analysis queries."""

import math
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import parts
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from builders import retraining_data
from builders.retraining_records import DAY, T0, Following, job, schema_of

from gauntlet import adapters
from gauntlet.errors import RecordsUnavailable
from gauntlet.types import Severity
from retrainer.jobs.job_dir import Answer
from retrainer.records import queries, rows, tables
from retrainer.records.database import MIGRATION_OPTIONS, Database
from retrainer.records.recorder import CODE
from retrainer.store import JobRecord
from retrainer.triggers.requests import RetrainRequest

ORIGIN = rows.origin("turning", T0)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest) -> str:
    return "local" if request.param == "sqlite" else schema_of(request.getfixturevalue("postgres"))


@pytest.fixture
def database(address: str, tmp_path: Path) -> Database:
    built = Database(address, tmp_path)
    built.migrate()
    return built


def regression(before: float, after: float, **rmse: float) -> Answer:
    metrics = {"champion": {"r2": before, "rmse": 2.0}, "challenger": {"r2": after, "rmse": 1.5, **rmse}}
    return Answer(accepted=True, version="v0003", metrics=metrics)


def write(database: Database, *jobs: JobRecord) -> None:
    database.write(
        {
            "model_retraining_events": [ORIGIN | rows.of_event(one) for one in jobs],
            "retraining_jobs": [ORIGIN | rows.of_job(one) for one in jobs],
        }
    )


def test_the_migrations_make_exactly_the_tables(database: Database) -> None:
    database.migrate()  # once more changes nothing
    with database.connected() as connection:
        context = MigrationContext.configure(connection, opts=MIGRATION_OPTIONS)
        assert compare_metadata(context, tables.metadata) == []
        indexes = {index["name"] for index in sa.inspect(connection).get_indexes("model_retraining_events")}
    assert indexes >= {
        "idx_retraining_severity",
        "idx_retraining_trigger_type",
        "idx_retraining_triggered_at",
        "idx_retraining_execution_successful",
    }


def test_postgresql_keeps_json_and_the_order_of_the_index(postgres: parts.Postgres, tmp_path: Path) -> None:
    address = schema_of(postgres)
    Database(address, tmp_path).migrate()
    schema = address.rpartition("%3D")[2]
    where = f"where schemaname = '{schema}' and indexname = 'idx_retraining_triggered_at'"
    assert "triggered_at DESC" in postgres.query(f"select indexdef from pg_indexes {where}")
    kind = "select data_type from information_schema.columns where column_name = 'execution_metrics'"
    assert postgres.query(f"{kind} and table_schema = '{schema}'") == "jsonb"


def test_many_may_migrate_at_once(address: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(Database(address, tmp_path).migrate) for _ in range(4)]:
            done.result()
    assert Database(address, tmp_path).read(queries.all_events("turning")) == []


def test_a_row_is_replaced_by_its_job_and_never_repeated(database: Database) -> None:
    pending = job(1, status="running", ended_at=None, answer=Answer())
    write(database, pending, job(2))
    write(database, job(1), job(2))
    found = database.read(queries.all_events("turning"))
    assert [(e["job_id"][-3:], e["execution_successful"]) for e in found] == [("002", True), ("001", True)]
    first = found[1]
    assert first["triggered_at"] == datetime.fromtimestamp(T0 + DAY, UTC)
    assert first["execution_metrics"]["challenger"] == {"accuracy": 0.88, "log_loss": 0.4}
    assert (first["retraining_accuracy"], first["retraining_r2"]) == (0.88, None)
    assert first["improvement_accuracy_percent"] == pytest.approx(10.0)
    assert database.read(queries.all_events("another")) == []


def test_what_json_or_postgresql_cannot_hold_is_left_out(database: Database) -> None:
    odd = Answer(
        accepted=False, reason="nul \0 and half \ud800", metrics={"challenger": {"r2": math.nan, "n": math.inf}}
    )
    write(database, job(1, answer=odd, trigger="rule:" + "x" * 200, reason="\0"))
    [event] = database.read(queries.all_events("turning"))
    assert event["execution_metrics"]["challenger"] == {"r2": None, "n": None}
    assert event["retraining_r2"] is None
    assert "\0" not in event["execution_metrics"]["reason"]
    inside = sa.select(tables.events.c.execution_metrics["seconds"].as_float())
    assert database.read(inside) == [{"execution_metrics": 12.5}] or list(database.read(inside)[0].values()) == [12.5]


def test_the_analysis_queries_answer_the_same_on_both(database: Database) -> None:
    write(
        database,
        job(1),
        job(2, status="failed", answer=Answer(error="no luck")),
        job(3, status="running", ended_at=None, answer=Answer()),
        job(9, trigger="schedule", answer=regression(0.5, 0.6)),
        job(10, trigger="schedule", answer=regression(0.0, -0.1, rmse=2.5)),
    )
    assert [
        (t["trigger_type"], t["frequency"], float(t["success_rate"]))
        for t in database.read(queries.by_trigger("turning"))
    ] == [("drift", 3, 50.0), ("schedule", 2, 100.0)]
    newest = database.read(queries.latest("turning"))[0]["at"]
    assert newest == datetime.fromtimestamp(T0 + 10 * DAY, UTC)
    week = database.read(queries.recent("turning", newest - timedelta(days=7)))
    assert [e["job_id"][-3:] for e in week] == ["010", "009"], "the third is exactly seven days old"
    better = database.read(queries.improvement("turning"))
    shown = [(e["job_id"][-3:], e["improvement_r2_percent"], e["improvement_rmse_percent"]) for e in better]
    assert shown == [("010", None, -25.0), ("009", pytest.approx(20.0), 25.0), ("001", None, None)]


@pytest.fixture
async def following(address: str, tmp_path: Path) -> AsyncIterator[Following]:
    built = Following(tmp_path, address)
    await retraining_data.lay(built.config, days=20, a_day=2)
    yield built
    built.store.close()
    await built.state.close()


async def test_jobs_and_decisions_are_recorded_with_their_checklist(following: Following) -> None:
    registry = adapters.registry(following.config)
    champion = registry.get("v0001")
    made = registry.register(
        retraining_data.champion_of("classification"),
        champion.schema,
        created_at=T0,
        note=job(1).id,
        rows=900,
        data_from=T0,
        data_to=T0 + 20 * DAY,
        algorithm="LogisticRegression",
    )
    following.put(job(1))
    stages = tuple(stage.stage() for stage in following.config.ramp)
    shadow = following.config.shadow.stage()
    await following.change("challenge", T0 + 1, version=made.version, shadow=shadow, stages=stages)
    await following.recorder.step()
    for second in range(2, 5):
        await following.change("advance", T0 + second)
    await following.recorder.step()
    await following.change("promote", T0 + 5, evidence="look-7")
    await following.recorder.step()
    await following.change("rollback", T0 + 6)
    await following.recorder.step()
    found = following.read(queries.decisions)
    assert [(d["version"], d["command"], d["champion"]) for d in reversed(found)] == [
        (1, "begin", "v0001"),
        (2, "challenge", "v0001"),
        (3, "advance", "v0001"),
        (4, "advance", "v0001"),
        (5, "advance", "v0001"),
        (6, "promote", "v0002"),
        (7, "rollback", "v0001"),
    ]
    promoted = found[1]
    assert (promoted["challenger"], promoted["job_id"], promoted["evidence"]) == ("v0002", job(1).id, "look-7")
    items = {check["item"]: (check["met"], check["detail"]) for check in promoted["checklist"]}
    assert [item for item, (met, _) in items.items() if not met] == ["alerts"]
    assert len(items) == 11
    assert items["data"] == (True, "900 rows to train on, 300 held out, 4 skipped")
    assert items["compared"] == (True, "accuracy 0.8 → 0.88, log_loss 0.5 → 0.4")
    assert items["alerts"] == (False, "0 targets of `notify`")
    assert [d["checklist"] is None for d in found] == [False, False, True, True, True, True, True]


async def test_a_new_recorder_goes_on_where_the_records_are(following: Following) -> None:
    following.put(job(1))
    await following.recorder.step()
    following.put(job(1, severity="CRITICAL"), job(2))
    await following.change(
        "challenge",
        T0 + 1,
        version="v9",
        shadow=following.config.shadow.stage(),
        stages=tuple(stage.stage() for stage in following.config.ramp),
    )
    again = following.anew()  # as after kill -9
    for _ in range(2):
        await again.step()
    assert [(e["job_id"][-3:], e["severity"]) for e in following.read(queries.all_events)] == [
        ("002", "HIGH"),
        ("001", "CRITICAL"),
    ]
    assert [d["version"] for d in following.read(queries.decisions)] == [2, 1]


async def test_what_is_not_committed_is_not_recorded(following: Following) -> None:
    following.store.put(job(1))
    await following.recorder.step()
    assert following.read(queries.all_events) == []
    following.store.commit()
    await following.recorder.step()
    assert len(following.read(queries.all_events)) == 1


async def test_a_suggestion_is_an_event_without_an_execution(following: Following) -> None:
    suggestion = RetrainRequest(
        kind="performance",
        id="performance-1",
        at=T0,
        severity=Severity.MEDIUM,
        model="v0001",
        reason="accuracy fell",
        mode="suggest",
    )
    following.store.open_request(suggestion)
    following.put(job(1))
    await following.recorder.step()
    following.store.open_request(msgspec.structs.replace(suggestion, severity=Severity.CRITICAL))
    await following.recorder.step()
    found = {str(event["job_id"]): event for event in following.read(queries.all_events)}
    event = found.pop("suggested performance-1")
    assert (event["severity"], event["execution_attempted"], event["execution_successful"]) == ("CRITICAL", False, None)
    assert list(found) == [job(1).id]
    counts = {
        row["trigger_type"]: (row["frequency"], row["success_rate"]) for row in following.read(queries.by_trigger)
    }
    assert counts["performance"] == (1, None)


def test_a_broken_clock_does_not_stop_the_others(database: Database) -> None:
    write(database, job(1, created_at=T0 * 1000), job(2, created_at=math.inf, updated_at=-1.0), job(3))
    assert len(database.read(queries.all_events("turning"))) == 3


def test_a_password_is_never_told(tmp_path: Path) -> None:
    address = "postgresql://someone:s3cr%40t@127.0.0.1:1/nowhere"
    with pytest.raises(RecordsUnavailable) as refused:
        Database(address, tmp_path).migrate()
    told = f"{refused.value} {refused.value.__cause__}"
    assert "postgresql://someone:***@127.0.0.1:1/nowhere" in told
    assert "s3cr" not in told
    assert CODE == "records_behind"
