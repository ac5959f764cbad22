"""Every query of the Grafana dashboard returns data: after a demo run, and the rest from the same metric objects.
Invariant: the queries come from the dashboard's file, and Prometheus itself answers them."""

import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT
from typing import Any

import parts
import promql
import pytest
import yaml
from parts.process import Process
from prometheus_client import start_http_server

from gauntlet import telemetry

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "gauntlet.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPERIMENT = "flights"

DAYS = 12  # of the demo: traffic, outcomes, drift scores and the champion's health, and no rollout yet
DEMO_SECONDS = 240.0

NEEDS_A_ROLLOUT = {
    "Effect with its interval": "only a challenger has an effect",
    "Evidence collected": "only a rollout plans its evidence",
    "Sample ratio mismatch": "nobody is assigned to a challenger before the ramp",
    "Metrics by arm": "means by arm come with a rollout's looks",
    "Time to rollback": "quantiles of no rollback are no number",
    "Guardrails": "guards belong to a rollout's looks",
    "Guardrails: the challenger's difference": "so do their figures",
    "Label arrival by arm": "arms are told apart where a challenger is assigned",
    "Contradicted labels by arm": "and so are labels that change",
    "Segments: effect": "only a challenger has an effect",
    "Segments: p value of harm": "only a challenger does harm",
    "Outcomes to go": "only a rollout plans its evidence",
    "Reasons to hold": "only a rollout can be held",
    "Stage of the ramp": "each rollout has a stage of its own",
    "Breaker by replica": "and a breaker",
    "False alarms of the A/A tests": "the slice is off by default",
    "A/A tests": "so there are none",
    "Realised gain of the champion's promotion": "nobody is promoted in so few days",
    "Gain of all promotions": "so there is no sum",
    "Units that met both arms": "there are two arms in a rollout only",
}
"""Panels without data in a demo too short for its first challenger, and why; the end of this file shows them."""


@dataclass(frozen=True)
class Query:
    panel: str
    ref: str
    expression: str
    legend: str

    def __str__(self) -> str:
        return f"{self.panel} {self.ref}"

    def filled(self, experiment: str, *, span: float) -> str:
        """As Grafana would send it, for samples every fifth of a second."""
        return _filled(self.expression, experiment, span)


def _filled(expression: str, experiment: str, span: float) -> str:
    values = {"experiment": experiment, "__rate_interval": "5s", "__interval": "1s", "__range": f"{math.ceil(span)}s"}
    filled = re.sub(r"\$\{?(\w+)\}?", lambda found: values[found[1]], expression)
    assert "$" not in filled
    return filled


QUERIES = [
    Query(panel["title"], target["refId"], target["expr"], target["legendFormat"])
    for panel in PANELS
    for target in panel["targets"]
]
ANNOTATIONS = [one for one in DASHBOARD["annotations"]["list"] if "expr" in one]


def _numbers(prometheus: parts.Prometheus, query: Query, experiment: str, start: float, end: float) -> list[float]:
    """Every number that the query gives between two times."""
    expression = query.filled(experiment, span=end - start)
    step = max(0.5, (end - start) / 1000)
    first = end - step * math.floor((end - start) / step)  # so that the last point is the end itself
    series = prometheus.query_range(expression, start=first, end=end, step=step)
    return [value for one in series for _, value in one.points if not math.isnan(value)]


# The file by itself


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_queries_use_metrics_and_labels_that_exist(query: Query) -> None:
    legend = "" if query.legend == "__auto" else query.legend
    assert promql.faults(query.expression, legend) == []


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=lambda one: one["name"])
def test_annotations_use_metrics_and_labels_that_exist(annotation: dict[str, Any]) -> None:
    assert promql.faults(annotation["expr"], annotation["textFormat"]) == []


@pytest.mark.parametrize(
    ("expression", "legend", "fault"),
    [
        ("gauntlet_nothing_total", "", "there is no metric gauntlet_nothing_total"),
        ('gauntlet_requests_total{arm="x"}', "", "gauntlet_requests_total has no label arm"),
        ("sum by (feature) (rate(gauntlet_fallback_total[5m]))", "", "no metric here has the label feature"),
        ("sum(gauntlet_effect)", "{{metric}}", "the legend shows metric, which the result has not"),
        ("gauntlet_request_seconds", "", "there is no metric gauntlet_request_seconds"),
        ("vector(1)", "", "it uses no metric of Gauntlet"),
    ],
)
def test_a_wrong_query_would_be_seen(expression: str, legend: str, fault: str) -> None:
    assert promql.faults(expression, legend) == [fault]


def test_every_metric_is_on_the_dashboard() -> None:
    used = {name for query in QUERIES for name in promql.use(query.expression).matched}
    missing = [name for name, metric in promql.owned().items() if not used & promql.names(metric).keys()]
    assert missing == []


def test_experiment_is_chosen_from_a_metric_that_has_it() -> None:
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variables["experiment"]["query"]["query"])
    assert asked is not None
    assert asked[2] in promql.exposed()[asked[1]]
    sources = {str(part["datasource"]["uid"]) for panel in PANELS for part in (panel, *panel["targets"])}
    assert sources == {"${datasource}"}
    assert variables["datasource"]["query"] == "prometheus"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panels_explain_themselves(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_panels_fill_the_grid_without_overlap() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert max(x for x, _ in cells) == 23
    assert len(cells) == len(set(cells)) == 24 * (max(y for _, y in cells) + 1)


def test_panels_without_data_in_a_short_demo_are_panels() -> None:
    assert {query.panel for query in QUERIES} > NEEDS_A_ROLLOUT.keys()


# A real run


@dataclass(frozen=True)
class Run:
    """A demo that ran to its end, while Prometheus scraped it."""

    start: float
    end: float
    said: str


@pytest.fixture(scope="module")
def demo(prometheus: parts.Prometheus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("dashboard")
    run, out = folder / "run", folder / "out"
    command = [sys.executable, "-m", "gauntlet.cli", "demo", "--days", str(DAYS), "--run", str(run), "--hold"]
    start = time.time()
    with out.open("wb") as file:
        process = Process(command, folder=folder, out=file, err=file)
        try:
            # The configuration has the ports before the services start, so that no counter's first steps are missed.
            targets = _until(lambda: _targets(run / "config.yaml"), process, out)
            prometheus.load(parts.scrape_config(targets))
            _until(lambda: "holding" in out.read_text(errors="replace"), process, out)
            reported = time.time()
            _until(lambda: _scraped_since(prometheus, reported), process, out)
            end = time.time()
            process.signal(SIGINT)
            assert process.wait(60.0), "the demo does not stop"
            assert process.code == 0, out.read_text(errors="replace")[-4000:]
        finally:
            process.end()
    return Run(start, end, out.read_text(errors="replace"))


def _until(answer: Callable[[], Any], process: Process, out: Path) -> Any:
    """What `answer` says as soon as it says something; an error with the demo's last words when the demo ends first."""
    deadline = time.monotonic() + DEMO_SECONDS
    while time.monotonic() < deadline:
        found = answer()
        if found:
            return found
        if process.code is not None:
            break
        time.sleep(0.05)
    state = "runs on" if process.code is None else f"ended with {process.code}"
    raise AssertionError(f"the demo {state}:\n{out.read_text(errors='replace')[-4000:]}")


def _targets(path: Path) -> dict[str, list[str]]:
    """Where the services will answer, as soon as the configuration is there as a whole."""
    with suppress(FileNotFoundError, yaml.YAMLError, KeyError, TypeError):
        document = yaml.safe_load(path.read_text())
        router, observe = document["router"], document["observe"]
        ports = {"router": router["port"], **{n: observe[f"{n}_port"] for n in ("evaluator", "retrainer")}}
        if "retrain" in document:
            return {f"gauntlet-{name}": [f"127.0.0.1:{port}"] for name, port in ports.items()}
    return {}


def _scraped_since(prometheus: parts.Prometheus, moment: float) -> bool:
    samples = prometheus.query('timestamp(up{job=~"gauntlet-.+"} == 1)')
    return len(samples) == 3 and min(sample.value for sample in samples) > moment


@pytest.mark.parametrize("query", [q for q in QUERIES if q.panel not in NEEDS_A_ROLLOUT], ids=str)
def test_queries_return_data_after_a_demo_run(prometheus: parts.Prometheus, demo: Run, query: Query) -> None:
    assert _numbers(prometheus, query, EXPERIMENT, demo.start, demo.end), query.expression


@pytest.mark.parametrize("query", [q for q in QUERIES if q.panel in NEEDS_A_ROLLOUT], ids=str)
def test_the_exceptions_are_none_of_convenience(prometheus: parts.Prometheus, demo: Run, query: Query) -> None:
    """A panel that has data in the short demo must leave the list."""
    assert not _numbers(prometheus, query, EXPERIMENT, demo.start, demo.end), f"{query.panel} has data by now"


def test_traffic_on_the_dashboard_is_the_traffic_that_was(prometheus: parts.Prometheus, demo: Run) -> None:
    query = next(q for q in QUERIES if q.panel == "Requests by assigned and served arm")
    assert max(_numbers(prometheus, query, EXPERIMENT, demo.start, demo.end)) > 1.0
    up = next(q for q in QUERIES if q.panel == "Services answering")
    assert max(_numbers(prometheus, up, EXPERIMENT, demo.start, demo.end)) == 3.0


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=lambda one: one["name"])
def test_annotations_can_be_asked(prometheus: parts.Prometheus, annotation: dict[str, Any]) -> None:
    found = prometheus.query(_filled(annotation["expr"], EXPERIMENT, 60.0))
    shown = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", annotation["textFormat"]))
    assert all(shown <= sample.labels.keys() for sample in found)


# What needs a rollout, from the metric objects that the services use


@pytest.fixture(scope="module")
def rollout(prometheus: parts.Prometheus) -> Iterator[tuple[str, float]]:
    """An experiment whose gauges stand as after a rollout's looks and one rollback; since when."""
    name = "dashboard"
    for service in ("router", "evaluator", "retrainer"):
        telemetry.initialise(name, service)
    one = f"{name}-r0001"
    telemetry.STAGE.labels(name, one).set(2)
    telemetry.BREAKER.labels(name, one).set(1)
    telemetry.EFFECT.labels(name, one, "log_loss").set(0.012)
    telemetry.EFFECT_LOWER.labels(name, one, "log_loss").set(0.003)
    telemetry.EFFECT_UPPER.labels(name, one, "log_loss").set(0.021)
    telemetry.INFORMATION.labels(name, one).set(0.4)
    telemetry.SRM.labels(name, one).set(0.7)
    for arm, loss in (("champion", 0.512), ("challenger", 0.5)):
        telemetry.ARM_METRIC.labels(name, one, arm, "log_loss").set(loss)
    telemetry.GUARDRAIL_STATE.labels(name, one, "brier").set(2)
    telemetry.GUARDRAIL_EFFECT.labels(name, one, "brier").set(-0.03)
    telemetry.GUARDRAIL_UPPER.labels(name, one, "brier").set(-0.011)
    telemetry.LABEL_ARRIVAL.labels(name, one, "challenger").set(0.87)
    telemetry.CONTRADICTED.labels(name, one, "challenger").set(31)
    telemetry.CONFLICT_P.labels(name, one).set(0.0004)
    telemetry.SEGMENT_EFFECT.labels(name, one, "country", "DE").set(-0.2)
    telemetry.SEGMENT_P.labels(name, one, "country", "DE").set(0.004)
    telemetry.HOLDS.labels(name, one).set(1)
    telemetry.MOVED_UNITS.labels(name, one).set(3)
    telemetry.ETA.labels(name, one, "horizon").set(1200)
    telemetry.REALISED.labels(name, "gain").set(0.011)
    telemetry.LINEAGE.labels(name, "lower").set(0.007)
    for gauge, value in (
        (telemetry.AA_ROUNDS, 9),
        (telemetry.AA_ALARMS, 2),
        (telemetry.AA_RATE, 0.22),
        (telemetry.AA_LOWER, 0.01),
        (telemetry.AA_UPPER, 0.7),
        (telemetry.AA_LEVEL, 0.075),
    ):
        gauge.labels(name).set(value)
    telemetry.TIME_TO_ROLLBACK.labels(name).observe(0.02)
    start = time.time()
    server, thread = start_http_server(0, "127.0.0.1")
    try:
        prometheus.load(parts.scrape_config({"gauntlet-all": [f"127.0.0.1:{server.server_port}"]}))
        prometheus.await_samples(f'gauntlet_srm_p_value{{experiment="{name}"}}')
        yield name, start
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("query", "value"),
    [
        (query, value)
        for query in QUERIES
        for panel, ref, value in (
            ("Effect with its interval", "A", 0.021),
            ("Effect with its interval", "B", 0.012),
            ("Effect with its interval", "C", 0.003),
            ("Evidence collected", "A", 0.4),
            ("Sample ratio mismatch", "A", 0.7),
            ("Metrics by arm", "A", 0.5),
            ("Guardrails", "A", 2.0),
            ("Guardrails: the challenger's difference", "A", -0.03),
            ("Guardrails: the challenger's difference", "B", -0.011),
            ("Label arrival by arm", "A", 0.87),
            ("Contradicted labels by arm", "A", 31.0),
            ("Contradicted labels by arm", "B", 0.0004),
            ("Segments: effect", "A", -0.2),
            ("Segments: p value of harm", "A", 0.004),
            ("Outcomes to go", "A", 1200.0),
            ("Reasons to hold", "A", 1.0),
            ("Units that met both arms", "A", 3.0),
            ("Realised gain of the champion's promotion", "A", 0.011),
            ("Gain of all promotions", "A", 0.007),
            ("False alarms of the A/A tests", "A", 0.7),
            ("False alarms of the A/A tests", "B", 0.22),
            ("False alarms of the A/A tests", "C", 0.01),
            ("False alarms of the A/A tests", "D", 0.075),
            ("A/A tests", "A", 9.0),
            ("A/A tests", "B", 2.0),
            ("Stage of the ramp", "A", 2.0),
            ("Breaker by replica", "A", 1.0),
            ("Time to rollback", "A", 0.03),  # half-way through the bucket from 0.01 to 0.05
            ("Time to rollback", "B", 0.05),
        )
        if (query.panel, query.ref) == (panel, ref)
    ],
    ids=str,
)
def test_queries_return_what_a_rollout_set(
    prometheus: parts.Prometheus, rollout: tuple[str, float], query: Query, value: float
) -> None:
    name, start = rollout
    found = _numbers(prometheus, query, name, start, time.time())
    assert found
    assert min(found) == pytest.approx(value)


def test_every_query_that_needs_a_rollout_is_checked_with_one() -> None:
    marks = test_queries_return_what_a_rollout_set.pytestmark  # type: ignore[attr-defined]
    checked = {str(query) for query, _ in marks[0].args[1]}
    assert checked == {str(query) for query in QUERIES if query.panel in NEEDS_A_ROLLOUT}
