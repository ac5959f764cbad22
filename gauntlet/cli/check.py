"""`gauntlet check`: refuses what `gauntlet up` would refuse, and starts and writes nothing; else says what it found."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Sequence

from gauntlet import first_start, in_force, preflight, traffic_notes
from gauntlet.cli import diff, load_config
from gauntlet.clock import lasting
from gauntlet.config import Config
from gauntlet.config.rehearsal import notice
from gauntlet.errors import ConfigError
from gauntlet.registry.artifact import Feature


def run(arguments: argparse.Namespace) -> int:
    """Check the configuration, its model and its reference. Raises `ConfigError` or `ModelUnusable`."""
    path = arguments.config
    config = load_config.load(path)
    preflight.refuse_environment(config)
    found = asyncio.run(in_force.read(config))
    if found is None:
        champion = first_start.read_champion(config)
    else:
        in_force.refuse(config, found)
        champion = first_start.read_serving(config, in_force.champion(config, found))
    schema, reference = champion.fitted.schema, champion.reference
    differences = in_force.differences(config, found) if found is not None else []
    differ = "1 setting differs" if len(differences) == 1 else f"{len(differences)} settings differ"
    number = "1 feature" if len(schema.features) == 1 else f"{len(schema.features)} features"
    standing = f"{differ} from what is in force" if differences else "ok"
    print(f"{path}: {config.experiment}, {type(champion.model).__name__}, {number}, {standing}")
    if (rehearsal := notice(config)) is not None:
        print(rehearsal)
    print(f"task: {config.task}" + (f", classes {', '.join(map(str, schema.classes))}" if schema.classes else ""))
    print(_features(schema.features))
    print(f"prediction: {champion.trial}")
    print(diff.serving(found) if found else f"nothing is in force yet in {config.data}: the first start takes all this")
    for difference in differences:
        print(f"differs: {difference}")
    seen = asyncio.run(traffic_notes.recorded(config)) if found is not None else None
    for note in [
        *_untold(config),
        *champion.notes,
        *(traffic_notes.notes(config, schema, seen) if seen is not None else []),
    ]:
        print(f"note: {note}")
    print(_rollout_times(config))
    if reference is not None:
        losses = "with the champion's error on them" if reference.losses else "without the champion's error on them"
        print(f"reference: the newest {reference.rows:,} rows, {losses}")
    return 0


def _features(features: Sequence[Feature]) -> str:
    """The model's inputs, and which of them a request may leave out."""
    some = any(not feature.required for feature in features)
    title = "features" if some else "features, each request needs all of them"
    return f"{title}: {', '.join(map(in_force.feature_in_words, features))}"


def _untold(config: Config) -> Iterator[str]:
    """Why a target of `notify` could not be told from here; the retrainer may run where its secrets are."""
    if not config.notify:
        return
    from retrainer.notify.targets import targets

    try:
        targets(config.notify)
    except ConfigError as error:
        yield f"{error}, or the retrainer refuses to start"


def _rollout_times(config: Config) -> str:
    """How soon a challenger may be promoted, by the declared times alone."""
    evidence = config.evidence
    times = [float(config.shadow.min_time), *(float(stage.min_time) for stage in config.ramp)]
    ramp, horizon, first = sum(times), float(evidence.outcome_horizon), int(evidence.form == "split")
    # Pairs tell of the challenger from shadow on, its own traffic from the first stage on; neither is left unseen.
    waits = max(0.0, evidence.first_look - times[first])
    earliest = max(ramp + waits, evidence.earliest_win)
    look = f", {lasting(waits)} more until harm could have shown" if waits else ""
    return (
        f"rollout: a challenger is promoted {lasting(earliest)} after its start at the earliest (shadow and ramp "
        f"{lasting(ramp)}{look}; a win needs {lasting(evidence.earliest_win - horizon)} of outcomes, which count "
        f"{lasting(horizon)} after the prediction)"
    )
