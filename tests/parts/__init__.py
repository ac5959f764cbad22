"""Real servers and tools for tests: each is a context manager that starts one on loopback ports and ends it.
Invariant: nothing here is a double, and no process outlives the test run that started it."""

from parts.airflow import Airflow
from parts.chromium import Chromium, Page
from parts.kafka import Kafka
from parts.mlflow import MlflowServer
from parts.part import Part, PartError
from parts.port import free_port
from parts.postgres import Postgres
from parts.prometheus import Prometheus, Sample, Series, promtool, scrape_config
from parts.ray import Ray
from parts.redis import Redis
from parts.requirement import NAMES, required

__all__ = [
    "NAMES",
    "Airflow",
    "Chromium",
    "Kafka",
    "MlflowServer",
    "Page",
    "Part",
    "PartError",
    "Postgres",
    "Prometheus",
    "Ray",
    "Redis",
    "Sample",
    "Series",
    "free_port",
    "promtool",
    "required",
    "scrape_config",
]
