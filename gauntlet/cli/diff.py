"""`gauntlet diff`: where the configuration differs from what is in force, and when each difference takes effect."""

from __future__ import annotations

import argparse
import asyncio

from gauntlet import in_force
from gauntlet.cli import load_config


def run(arguments: argparse.Namespace) -> int:
    """Print every difference. Returns 2 where `gauntlet up` would refuse one, else 0."""
    path = arguments.config
    config = load_config.load(path)
    found = asyncio.run(in_force.read(config))
    if found is None:
        print(f"{path}: nothing is in force yet; the first start takes everything")
        return 0
    differences = in_force.differences(config, found)
    print(f"{path}: {serving(found)}" + ("" if differences else ", as configured"))
    for difference in differences:
        print(difference)
    in_force.refuse(config, found)
    return 0


def serving(found: in_force.InForce) -> str:
    """What runs, in words."""
    if found.control is None:
        return f"{found.settings.experiment} has started before; its state store tells nothing now"
    running = "".join(f", {rollout.id} is running with {rollout.challenger}" for rollout in found.control.rollouts)
    return f"{found.settings.experiment} is in force with champion {found.control.champion}{running}"
