"""What lies in deploy/ and docker-compose.yml fits together and fits the code: names, ports, files, rules, settings.
Invariant: nothing here needs a container engine, and nothing is compared with a copy of itself."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import msgspec
import promql
import pytest
import yaml
from prometheus_client import REGISTRY

from gauntlet import config as structs
from gauntlet import telemetry
from gauntlet.auth import ApiKeys
from gauntlet.cli import command
from gauntlet.cli.up import SERVICES
from gauntlet.config import load as configs
from gauntlet.errors import ConfigError
from gauntlet.types import TriggerKind

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
CONFIG = configs.parse((DEPLOY / "compose" / "config.yaml").read_text())
ALERTS = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
Promtool = Callable[..., subprocess.CompletedProcess[str]]


def _targets(path: str) -> dict[str, str]:
    """job → its one target."""
    jobs = yaml.safe_load((DEPLOY / path).read_text())["scrape_configs"]
    return {job["job_name"]: target for job in jobs for group in job["static_configs"] for target in group["targets"]}


# Prometheus


@pytest.mark.parametrize("path", ["prometheus/alerts.yml"])
def test_promtool_accepts_the_rules(promtool: Promtool, path: str) -> None:
    done = promtool("check", "rules", str(DEPLOY / path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", ["prometheus/prometheus.yml", "compose/prometheus.yml"])
def test_promtool_accepts_the_configuration(promtool: Promtool, tmp_path: Path, path: str) -> None:
    # Side by side with the rules, as the folder is, or as the container mounts them.
    for file in (DEPLOY / path, DEPLOY / "prometheus" / "alerts.yml"):
        (tmp_path / file.name).write_text(file.read_text())
    done = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_alerts_pass_their_unit_tests(promtool: Promtool) -> None:
    done = promtool("test", "rules", str(DEPLOY / "prometheus" / "alerts_test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_unit_test_in_which_it_fires() -> None:
    tested = (DEPLOY / "prometheus" / "alerts_test.yml").read_text()
    fired = set(re.findall(r'alertname="(\w+)"', tested)) | set(re.findall(r"alertname: (\w+)", tested))
    assert fired == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alerts_use_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    assert promql.faults(rule["expr"]) == []
    shown = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    assert shown <= (promql.use(rule["expr"]).grouped or _all_labels(rule["expr"]))
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}


def _all_labels(expression: str) -> set[str]:
    known = promql.exposed()
    return set().union(*(known[name] for name in promql.use(expression).matched))


def test_alerts_for_the_jobs_that_are_scraped() -> None:
    down = next(rule for rule in ALERTS if rule["alert"] == "GauntletServiceDown")
    pattern = re.search(r'job=~"([^"]+)"', down["expr"])
    assert pattern is not None
    for path in ("prometheus/prometheus.yml", "compose/prometheus.yml"):
        jobs = _targets(path)
        assert set(jobs) == {f"gauntlet-{service}" for service in SERVICES}
        assert all(re.fullmatch(pattern[1], job) for job in jobs)


def test_scraped_ports_are_the_defaults() -> None:
    router, observe = structs.RouterConfig(), structs.ObserveConfig()
    assert _targets("prometheus/prometheus.yml") == {
        "gauntlet-router": f"{router.host}:{router.port}",
        "gauntlet-evaluator": f"{observe.host}:{observe.evaluator_port}",
        "gauntlet-retrainer": f"{observe.host}:{observe.retrainer_port}",
    }


def test_both_prometheus_configurations_differ_in_their_targets_only() -> None:
    one, other = (yaml.safe_load((DEPLOY / path / "prometheus.yml").read_text()) for path in ("prometheus", "compose"))
    for document in (one, other):
        for job in document["scrape_configs"]:
            del job["static_configs"]
    assert one == other


# Counters that stand at zero


COUNTED = {
    "router": [
        "requests",
        "repeats",
        "request_seconds",
        "fallback",
        "refused",
        "shadow",
        "events_lost",
        "outcomes_received",
        "decisions",
        "rollback",
        "time_to_rollback_seconds",
    ],
    "evaluator": ["outcomes", "join_lag_seconds", "verdict", "dead_letters", "refused"],
    "retrainer": [
        "retrain_jobs",
        "decisions",
        "rollback",
        "time_to_rollback_seconds",
        "dead_letters",
        "notices",
        "records_outages",
        "refused",
    ],
}
"""The counters and histograms of each service."""

_SERIES = """
import sys
from prometheus_client import generate_latest
from gauntlet import telemetry
telemetry.initialise("fresh", sys.argv[1])
print(generate_latest().decode())
"""


@pytest.mark.parametrize("service", SERVICES)
def test_every_counter_of_a_service_stands_at_zero_from_the_start(service: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SERIES, service], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    samples = re.findall(r"^gauntlet_(\w+?)(?:_total|_count)(?:\{[^}]*\})? (\S+)$", done.stdout, re.MULTILINE)
    assert {name for name, _ in samples} == set(COUNTED[service])
    assert {value for _, value in samples} == {"0.0"}


def test_every_counter_belongs_to_a_service() -> None:
    counted = {m.describe()[0].name for m in promql.owned().values() if not isinstance(m, telemetry.Gauge)}
    assert {f"gauntlet_{name}" for names in COUNTED.values() for name in names} == counted


def test_jobs_stand_at_zero_for_every_trigger_there_is() -> None:
    telemetry.initialise("triggers", "retrainer")
    shown = {
        sample.labels["trigger"]
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == "gauntlet_retrain_jobs_total" and sample.labels["experiment"] == "triggers"
    }
    assert shown == set(get_args(TriggerKind))


# docker-compose.yml


def _mounts(container: str) -> Iterator[tuple[str, str]]:
    """(source, target) of every mount, variables replaced by their defaults."""
    for mount in CONTAINERS[container].get("volumes", []):
        source, target = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", mount).split(":")[:2]
        yield source, target


@pytest.mark.parametrize("container", CONTAINERS)
def test_mounted_files_exist_and_volumes_are_declared(container: str) -> None:
    for source, _ in _mounts(container):
        if source.startswith("."):
            assert (ROOT / source).exists(), source
        else:
            assert source in COMPOSE["volumes"], source


@pytest.mark.parametrize("container", CONTAINERS)
def test_ports_are_published_on_loopback_only(container: str) -> None:
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in CONTAINERS[container].get("ports", []))


@pytest.mark.parametrize("container", CONTAINERS)
def test_images_are_pinned_and_containers_watched(container: str) -> None:
    image = CONTAINERS[container]["image"]
    assert re.search(r":[^:]*\d|:local$", image), image
    health = CONTAINERS[container]["healthcheck"]
    assert health.get("disable") or health["test"][0] == "CMD"


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_wait_for_what_exists_and_has_a_health(container: str) -> None:
    for other, how in CONTAINERS[container].get("depends_on", {}).items():
        disabled = CONTAINERS[other]["healthcheck"].get("disable", False)
        assert how["condition"] == ("service_completed_successfully" if disabled else "service_healthy")


def test_the_brokers_version_is_the_tests_version() -> None:
    version = re.search(r"<kafka\.version>(.+?)<", (DEPLOY / "local" / "kafka" / "pom.xml").read_text())
    assert version is not None
    assert CONTAINERS["kafka"]["image"] == f"apache/kafka:{version[1]}"


def test_the_model_registrys_version_is_the_tests_version() -> None:
    version = re.search(r"^mlflow==(\S+)$", (ROOT / "requirements" / "mlflow-server.in").read_text(), re.MULTILINE)
    assert version is not None
    assert CONTAINERS["mlflow"]["image"] == f"ghcr.io/mlflow/mlflow:v{version[1]}"


def test_the_model_registry_is_opted_into_by_a_profile_and_a_line() -> None:
    assert [name for name, container in CONTAINERS.items() if "profiles" in container] == ["mlflow"]
    waiting = [name for name, one in CONTAINERS.items() if "mlflow" in one.get("depends_on", {})]
    assert waiting == ["router"]
    assert CONTAINERS["router"]["depends_on"]["mlflow"]["required"] is False, "without the profile there is none"
    text = (DEPLOY / "compose" / "config.yaml").read_text()
    registry = urlsplit(configs.parse(text.replace("# registry:", "registry:")).registry.removeprefix("mlflow+"))
    assert CONFIG.registry == "local"
    assert registry.hostname in CONTAINERS
    assert f"--port={registry.port}" in CONTAINERS["mlflow"]["command"]
    assert registry.netloc in CONTAINERS["mlflow"]["command"][-1].partition("=")[2].split(",")


def test_services_find_log_and_state_by_their_names() -> None:
    log, state = urlsplit(CONFIG.log), urlsplit(CONFIG.state)
    kafka = CONTAINERS[str(log.hostname)]
    assert kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{log.netloc}"
    assert f"PLAINTEXT://:{log.port}" in kafka["environment"]["KAFKA_LISTENERS"]
    assert CONTAINERS[str(state.hostname)]["image"].startswith("redis:")
    assert state.port == 6379


def test_one_broker_keeps_one_copy_of_everything() -> None:
    settings = CONTAINERS["kafka"]["environment"]
    copies = {name: value for name, value in settings.items() if name.endswith(("REPLICATION_FACTOR", "MIN_ISR"))}
    assert copies
    assert set(copies.values()) == {"1"}


def test_each_service_is_a_command_that_exists_with_the_mounted_configuration() -> None:
    parser = command.parser()
    for service in SERVICES:
        asked = CONTAINERS[service]["command"]
        assert parser.parse_args(asked).command == service
        assert ("./deploy/compose/config.yaml", asked[1]) in _mounts(service)
        assert (CONTAINERS[service]["restart"], CONTAINERS[service]["init"]) == ("unless-stopped", True)


def test_scraped_and_watched_ports_are_the_configured_ones() -> None:
    ports = {
        "router": CONFIG.router.port,
        "evaluator": CONFIG.observe.evaluator_port,
        "retrainer": CONFIG.observe.retrainer_port,
    }
    assert _targets("compose/prometheus.yml") == {f"gauntlet-{name}": f"{name}:{port}" for name, port in ports.items()}
    for name, port in ports.items():
        assert CONTAINERS[name]["healthcheck"]["test"][3] == str(port)
    assert CONTAINERS["router"]["ports"] == [f"127.0.0.1:{CONFIG.router.port}:{CONFIG.router.port}"]
    assert CONFIG.observe.host == CONFIG.router.host == "0.0.0.0"


def test_the_open_router_has_keys_and_their_variables_reach_it() -> None:
    environment = CONTAINERS["router"]["environment"]
    assert {key.env for key in CONFIG.keys} == set(environment)
    for name, value in environment.items():
        assert value.startswith(f"${{{name}:?"), "compose must refuse to start without it"
    keys = ApiKeys(CONFIG.keys, {name: "k" * 24 + name for name in environment})
    assert keys.caller({b"x-api-key": b"k" * 24 + b"GAUNTLET_OPERATOR_KEY"}).name == "operators"


def test_configuration_without_keys_would_be_refused() -> None:
    text = (DEPLOY / "compose" / "config.yaml").read_text()
    with pytest.raises(ConfigError, match="keys"):
        configs.parse(text[: text.index("keys:")])


def test_all_services_share_the_data_folder_and_the_models() -> None:
    for service in SERVICES:
        assert {("data", CONFIG.data), ("models", "/models")} <= set(_mounts(service))
    assert CONFIG.champion.model == CONTAINERS["model"]["command"][0]


def test_example_model_serves_the_compose_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "champion.skops"
    script = [sys.executable, str(DEPLOY / "compose" / "example_model.py"), str(model)]
    subprocess.run(script, check=True, capture_output=True, timeout=120)
    made = model.read_bytes()
    path = tmp_path / "config.yaml"
    path.write_text((DEPLOY / "compose" / "config.yaml").read_text().replace(CONFIG.champion.model, str(model)))
    assert command.main(["check", str(path)]) == 0
    assert "iris, Pipeline, 4 features, ok" in capsys.readouterr().out
    output = subprocess.run(script, check=True, capture_output=True, text=True, timeout=120).stdout
    assert "there already" in output
    assert model.read_bytes() == made


# Grafana


def test_grafana_finds_its_dashboard_and_prometheus() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    provider = yaml.safe_load((provisioning / "dashboards" / "gauntlet.yml").read_text())["providers"][0]
    mounts = dict(_mounts("grafana"))
    assert urlsplit(source["url"]).hostname in CONTAINERS
    assert f":{urlsplit(source['url']).port}" in CONTAINERS["prometheus"]["ports"][0]
    assert mounts["./deploy/grafana/gauntlet.json"] == f"{provider['options']['path']}/gauntlet.json"
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = CONTAINERS["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == mounts["./deploy/grafana/gauntlet.json"]
    interval = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval


def test_dashboard_is_json_with_an_id_of_its_own() -> None:
    dashboard = msgspec.json.decode((DEPLOY / "grafana" / "gauntlet.json").read_bytes())
    assert (dashboard["uid"], dashboard["title"], dashboard.get("id")) == ("gauntlet", "Gauntlet", None)
