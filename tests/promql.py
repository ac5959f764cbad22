"""What a PromQL expression uses of Gauntlet's metrics, and what Gauntlet really exposes.
Invariant: the truth is gauntlet.telemetry itself; nothing here knows a metric by name."""

import re
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from gauntlet import telemetry

SCRAPED = frozenset({"job", "instance"})
"""Labels that Prometheus puts on every series."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"\b((?:gauntlet_\w+)|up)\b\s*(?:\{([^}]*)\})?")


@dataclass(frozen=True)
class Use:
    """The labels that an expression matches on, by metric name, and those that it groups by."""

    matched: dict[str, frozenset[str]]
    grouped: frozenset[str]


def use(expression: str) -> Use:
    """Take an expression apart. Metrics that are not Gauntlet's, but for `up`, are not seen."""
    bare = _STRING.sub('""', expression)
    grouped = frozenset(label.strip() for found in _GROUPING.findall(bare) for label in found.split(",")) - {""}
    matched: dict[str, frozenset[str]] = {}
    for name, selector in _SELECTOR.findall(_GROUPING.sub("", bare)):
        labels = frozenset(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
        matched[name] = matched.get(name, frozenset()) | labels
    return Use(matched, grouped)


def owned() -> dict[str, MetricWrapperBase]:
    """Gauntlet's metrics by their constant's name."""
    return {name: metric for name, metric in vars(telemetry).items() if isinstance(metric, MetricWrapperBase)}


def exposed() -> dict[str, frozenset[str]]:
    """Every series name that the services expose, with its labels: what a query may use."""
    found: dict[str, frozenset[str]] = {"up": SCRAPED}
    for metric in owned().values():
        for name, extra in names(metric).items():
            labels = metric._labelnames  # the client library shows them nowhere else before the first sample
            found[name] = frozenset(labels) | extra | SCRAPED
    return found


def names(metric: MetricWrapperBase) -> dict[str, frozenset[str]]:
    """The series of one metric with the labels that its kind adds."""
    name: str = metric.describe()[0].name
    if isinstance(metric, Counter):
        return {f"{name}_total": frozenset()}
    if isinstance(metric, Histogram):
        return {f"{name}_bucket": frozenset({"le"}), f"{name}_sum": frozenset(), f"{name}_count": frozenset()}
    assert isinstance(metric, Gauge), f"{name} is of a kind that nothing here knows"
    return {name: frozenset()}


def faults(expression: str, legend: str = "") -> list[str]:
    """What in an expression, or in its legend, names no metric or label that exists."""
    known = exposed()
    used = use(expression)
    found = [] if used.matched else ["it uses no metric of Gauntlet"]
    labels: set[str] = set()
    for name, matched in used.matched.items():
        if name not in known:
            found.append(f"there is no metric {name}")
            continue
        labels |= known[name]
        found += [f"{name} has no label {label}" for label in sorted(matched - known[name])]
    found += [f"no metric here has the label {label}" for label in sorted(used.grouped - labels)]
    shown = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", legend))
    found += [f"the legend shows {label}, which the result has not" for label in sorted(shown - used.grouped)]
    return found
