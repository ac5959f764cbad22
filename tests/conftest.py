"""Session fixtures for the real parts, and their logs beside a test that failed.
Invariant: a missing part skips its tests with the way to get it, or fails them when GAUNTLET_REQUIRE names it."""

import os
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import parts
import pytest
from builders import mlflow_database
from parts.requirement import VARIABLE

P = TypeVar("P", bound=parts.Part)

# Every worker would start a broker or a server of its own; these tests share one worker under `--dist loadgroup`.
_ONE_WORKER = ("kafka", "mlflow_server", "mlflow_template", "ray_cluster")


def pytest_configure(config: pytest.Config) -> None:
    try:
        parts.required(os.environ)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        for name in _ONE_WORKER:
            if name in fixtures and item.get_closest_marker("xdist_group") is None:
                item.add_marker(pytest.mark.xdist_group(name))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, parts.Part):
                value.keep_log = True
                report.sections.append((f"{value.name}: end of {value.log}", value.log_tail()))
    return report


def _absent(name: str, reason: str) -> NoReturn:
    if name in parts.required(os.environ):
        pytest.fail(f"{VARIABLE} names {name}, but: {reason}", pytrace=False)
    pytest.skip(reason)


def _running(part: type[P]) -> Iterator[P]:
    reason = part.missing()
    if reason is not None:
        _absent(part.name, reason)
    with part() as running:
        yield running


@pytest.fixture(scope="session")
def kafka() -> Iterator[parts.Kafka]:
    """A real Kafka broker. Shared: a test makes topics and groups with names of its own."""
    yield from _running(parts.Kafka)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[parts.Redis]:
    """A real Redis. Shared: a test uses a key prefix of its own."""
    yield from _running(parts.Redis)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[parts.Ray]:
    """A real Ray cluster that takes jobs."""
    yield from _running(parts.Ray)


@pytest.fixture(scope="session")
def postgres() -> Iterator[parts.Postgres]:
    """A real PostgreSQL. Shared: a test makes a schema of its own."""
    yield from _running(parts.Postgres)


@pytest.fixture(scope="session")
def prometheus() -> Iterator[parts.Prometheus]:
    """A real Prometheus that scrapes nothing yet: `prometheus.load(parts.scrape_config({...}))`."""
    yield from _running(parts.Prometheus)


@pytest.fixture(scope="session")
def mlflow_server() -> Iterator[parts.MlflowServer]:
    """A real MLflow server. Shared: a test uses an experiment of its own."""
    yield from _running(parts.MlflowServer)


@pytest.fixture(scope="session")
def mlflow_template() -> Iterator[Path]:
    """The folder of an empty MLflow database, to be copied."""
    with mlflow_database.template() as folder:
        yield folder


@pytest.fixture(scope="session")
def chromium() -> parts.Chromium:
    """Headless Chromium; each visit is a process of its own."""
    reason = parts.Chromium.missing()
    if reason is not None:
        _absent("chromium", reason)
    return parts.Chromium()


@pytest.fixture(scope="session")
def airflow() -> parts.Airflow:
    """Airflow; each call is a process of its own."""
    reason = parts.Airflow.missing()
    if reason is not None:
        _absent("airflow", reason)
    return parts.Airflow()


@pytest.fixture(scope="session")
def promtool() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Prometheus's checker as a function of its command line."""
    if shutil.which("promtool") is None:
        _absent("promtool", "promtool is not on the PATH (apt-get install prometheus)")
    return parts.promtool


@pytest.fixture(scope="session")
def curl() -> None:
    """curl is on the PATH."""
    if shutil.which("curl") is None:
        _absent("curl", "curl is not on the PATH (apt-get install curl)")
