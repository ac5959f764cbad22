"""`gauntlet check`: refuses what `gauntlet up` would refuse, and starts and writes nothing; else says what it found."""

from __future__ import annotations

from gauntlet import bootstrap, preflight
from gauntlet.cli import load_config
from gauntlet.config import Config
from gauntlet.config.evidence import MIN_CYCLES

_DAY = 86_400


def run(path: str) -> int:
    """Check the configuration at `path`, its model and its reference. Raises `ConfigError` or `ModelUnusable`."""
    config = load_config.load(path)
    preflight.refuse_environment(config)
    champion = bootstrap.read_champion(config)
    schema, reference = champion.fitted.schema, champion.reference
    print(f"{path}: {config.experiment}, {type(champion.model).__name__}, {len(schema.features)} features, ok")
    print(f"task: {config.task}" + (f", classes {', '.join(map(str, schema.classes))}" if schema.classes else ""))
    print("features:", ", ".join(f"{f.name} (text)" if f.kind == "text" else f.name for f in schema.features))
    print(f"prediction: {champion.trial}")
    print(_rollout_times(config))
    if reference is not None:
        losses = "with the champion's error on them" if reference.losses else "without the champion's error on them"
        print(f"reference: the newest {reference.rows:,} rows, {losses}")
    for note in champion.notes:
        print(f"note: {note}")
    return 0


def _rollout_times(config: Config) -> str:
    """How soon a challenger may be promoted, by the declared times alone."""
    evidence = config.evidence
    ramp = float(config.shadow.min_time) + sum(float(stage.min_time) for stage in config.ramp)
    win = MIN_CYCLES * evidence.cycle if evidence.block.auto else evidence.min_blocks * evidence.longest_block
    earliest = max(ramp, win + evidence.outcome_horizon)
    return (
        f"rollout: a challenger is promoted {earliest / _DAY:.3g} days after its start at the earliest (shadow and "
        f"ramp {ramp / _DAY:.3g} days; a win needs {win / _DAY:.3g} days of outcomes, which count "
        f"{evidence.outcome_horizon / _DAY:.3g} days after the prediction)"
    )
