"""Keeps the registry's aliases and statuses equal to the control record, level-triggered.

The control record decides, the registry reflects it; whatever an outage prevented is caught up on the next pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gauntlet.errors import DamagedFile
from gauntlet.registry import Registry
from gauntlet.rollout import Control
from gauntlet.structured_logging import get_logger

_log = get_logger("gauntlet.retrainer")


def aliases(control: Control) -> dict[str, str]:
    """champion, challenger (of several the one that is furthest) and previous, as far as there are any."""
    furthest = max(control.rollouts, key=lambda rollout: rollout.stage, default=None)
    named = {
        "champion": control.champion,
        "challenger": furthest.challenger if furthest else None,
        "previous": control.previous,
    }
    return {alias: version for alias, version in named.items() if version is not None}


def statuses(control: Control, versions: Iterable[str], before: dict[str, str]) -> dict[str, str]:
    """The status of each version: production, canary or staging; archived for those that have had their turn."""
    turned = {control.previous, *(e.challenger for e in control.ended), *(e.champion for e in control.ended)}
    found = {}
    for version in versions:
        status = before.get(version, "staging")
        if version in turned or status in ("production", "canary"):
            status = "archived"
        rollout = control.challenged_by(version)
        if rollout is not None:
            status = "staging" if rollout.in_shadow else "canary"
        if version == control.champion:
            status = "production"
        found[version] = status
    return found


def reconcile(control: Control, registry: Registry) -> None:
    """Write what differs; labels that can't be read are recreated. Blocking: the caller gives it a thread.

    Raises `DamagedFile` for the first version that can't be read, once everything else is done.
    """
    wanted = aliases(control)
    if _readable(registry.aliases) != wanted:
        registry.set_aliases(wanted)
    before = _readable(registry.statuses)
    for version, status in statuses(control, [v.version for v in registry.versions()], before).items():
        if before.get(version) != status:
            registry.set_status(version, status)
    for damaged in registry.damaged():
        raise damaged


def _readable(labels: Callable[[], dict[str, str]]) -> dict[str, str]:
    try:
        return labels()
    except DamagedFile as error:
        _log.warning("labels_made_anew", reason=error.text, next="written from the control record")
        return {}
