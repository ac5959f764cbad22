"""The traffic recorded on the router's own log, held against the configuration: names that match nothing, and settings
that need more traffic than arrives. These are only notes, because traffic may change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from gauntlet import adapters, events, keys
from gauntlet.clock import lasting
from gauntlet.config import Config
from gauntlet.config.evidence import EXTENSION
from gauntlet.log import LogReader
from gauntlet.registry.artifact import Schema
from gauntlet.spelling import did_you_mean, listed

_LATEST = 500  # predictions whose names are looked at
_RATED = 20_000  # outcomes that a rate is taken over
_SHORTEST = 3_600.0  # seconds of traffic that say anything of a day's
_FEWEST = 20
_DAY = 86_400.0


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """The latest predictions: how many brought each feature and each segment; and outcomes a second, where known."""

    predictions: int
    features: dict[str, int]
    segments: dict[str, int]
    rate: float | None = None


async def recorded(config: Config) -> Traffic | None:
    """The latest traffic on the router's own log in the data folder; None without any. Raises `LogUnavailable`."""
    if not (adapters.data(config) / "log").is_dir():
        return None
    reader = adapters.local_reader(config)
    try:
        features: Counter[str] = Counter()
        segments: Counter[str] = Counter()
        found = 0
        for partition in await reader.partitions(keys.PREDICTIONS):
            end = await reader.end(keys.PREDICTIONS, partition)
            first = max(end - _LATEST, await reader.seek(keys.PREDICTIONS, partition, float("-inf")))
            for record in await reader.read(keys.PREDICTIONS, partition, first, _LATEST):
                event = events.decode(record.value)
                if isinstance(event, events.Prediction) and event.experiment == config.experiment:
                    found += 1
                    features.update(name for name, value in event.features.items() if value is not None)
                    segments.update(event.segments.keys())
        if not found:
            return None
        return Traffic(predictions=found, features=features, segments=segments, rate=await _rate(reader))
    finally:
        await reader.close()


async def _rate(reader: LogReader) -> float | None:
    """Outcomes a second over the latest of them; None where they are too few, or of too short a time."""
    count, earliest, latest = 0, float("inf"), float("-inf")
    for partition in await reader.partitions(keys.OUTCOMES):
        end = await reader.end(keys.OUTCOMES, partition)
        first = max(end - _RATED, await reader.seek(keys.OUTCOMES, partition, float("-inf")))
        if first < end:
            count += end - first
            for offset in (first, end - 1):
                (record,) = await reader.read(keys.OUTCOMES, partition, offset, 1)
                earliest, latest = min(earliest, record.at), max(latest, record.at)
    return count / (latest - earliest) if count >= _FEWEST and latest - earliest >= _SHORTEST else None


def notes(config: Config, schema: Schema, traffic: Traffic) -> Iterator[str]:
    """What the traffic says against the configuration."""
    yield from _names(config, schema, traffic)
    if traffic.rate is not None:
        yield from _amounts(config, traffic.rate)


def _names(config: Config, schema: Schema, traffic: Traffic) -> Iterator[str]:
    latest = f"the latest {traffic.predictions:,} requests"
    for name in config.segments:
        if name not in traffic.segments:
            brought = f"they bring {listed(traffic.segments)}" if traffic.segments else "they bring no `segments`"
            yield f"segments: none of {latest} has {name!r}; {did_you_mean(name, traffic.segments) or brought}"
    features = {feature.name for feature in schema.features}
    for feature in schema.features:
        if not feature.required and feature.name not in traffic.features:
            yield f"features: none of {latest} has a value for {feature.name!r}"
    for name in traffic.features:
        if name not in features and (hint := did_you_mean(name, features)):
            yield f"features: {latest} bring {name!r}, which is not a feature of the model and is ignored; {hint}"


def _amounts(config: Config, rate: float) -> Iterator[str]:
    """Settings that ask for more outcomes than come in their time."""
    retrain, evidence, bake = config.retrain, config.evidence, config.bake
    seen = f"at {rate * _DAY:,.0f} outcomes a day"
    holdout = retrain.validation + retrain.test
    shortest = min(holdout, retrain.window - holdout)
    if retrain.enabled and rate * shortest < retrain.min_data_points:
        part = "`validation` and `test` hold" if shortest == holdout else "`window` leaves to train on"
        yield (
            f"retrain.min_data_points: {seen}, {part} {rate * shortest:,.0f} rows in {lasting(shortest)}, and "
            f"{retrain.min_data_points:,} are asked for: every job would be refused"
        )
    if bake.time and rate * bake.window < bake.min_outcomes:
        yield (
            f"bake.min_outcomes: {seen}, `bake.window` ({lasting(bake.window)}) holds {rate * bake.window:,.0f}, and "
            f"{bake.min_outcomes:,} are asked for: a promoted model would never be taken back"
        )
    longest = EXTENSION * evidence.max_duration
    asked = {"shadow.min_outcomes": (config.shadow.min_outcomes, config.shadow.fraction)}
    asked |= {f"ramp[{i}].min_outcomes": (stage.min_outcomes, stage.share) for i, stage in enumerate(config.ramp)}
    if not evidence.block.auto:
        share = config.shadow.fraction if evidence.form == "paired" else config.ramp[-1].share
        asked["evidence.min_samples"] = (evidence.min_samples, share)
    for name, (count, share) in asked.items():
        if share and count > rate * share * longest:
            yield (
                f"{name}: {seen}, {count:,} of the challenger take {lasting(count / (rate * share))}, more than twice "
                f"`evidence.max_duration` ({lasting(longest)})"
            )
