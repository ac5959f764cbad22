"""Validation of the log's records: decoded events that can be evidence, or the reason why a record can't be. Pure.

The log is shared: not only the router writes to its topics. Whatever is let through can be counted; one record that
stopped the evaluator would stop it for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gauntlet import events, keys
from gauntlet.config import Config
from gauntlet.errors import ModelUnusable
from gauntlet.preflight import refuse_unfit
from gauntlet.registry import Registry
from gauntlet.types import Label, Task

InputEvent = events.Prediction | events.Shadow | events.Outcome

Batch = Sequence[tuple[str, InputEvent]]
"""Events with the `topic/partition` that each came from, in the order of their partition."""

_LATEST = 1e11  # event times are seconds; one in milliseconds would move the watermark to the year 50000 for ever
_LARGEST = 1e45  # of a regression's numbers: the square of a squared error is still a finite number
_ROUNDING = 1e-6  # by which a distribution's sum may miss 1

_DECODERS: dict[str, msgspec.json.Decoder[events.Prediction | events.Shadows | events.Outcome]] = {
    keys.PREDICTIONS: msgspec.json.Decoder(events.Prediction | events.Shadows),
    keys.OUTCOMES: msgspec.json.Decoder(events.Outcome),
}

TOPICS = tuple(_DECODERS)
"""The topics that the evaluator reads."""


class EventValidator:
    """Validates the events of one experiment. All its versions have the first one's classes: the router serves no
    others."""

    def __init__(self, config: Config, registry: Registry) -> None:
        """Raises `ConfigError` on a setting that names what the model does not have, `ModelUnusable` for an empty
        registry."""
        versions = registry.known()
        if not versions:
            raise ModelUnusable(
                f"the registry in {config.data} has no version: restore its folder", code="unknown_version"
            )
        schema = versions[0].schema
        refuse_unfit(config, schema)
        self.task = schema.task
        self.classes: dict[Label, int] = {label: index for index, label in enumerate(schema.classes)}
        self._experiment = config.experiment
        self._registry = registry
        self._known_versions: set[str] = set()

    def decode(self, topic: str, data: bytes) -> tuple[list[InputEvent], str | None]:
        """The events in a record's bytes, none for another experiment's; and why what else is in it can't be evidence,
        None where nothing is."""
        try:
            record = _DECODERS[topic].decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # also no UTF-8, or nested without end
            return [], str(error)
        if record.experiment != self._experiment:
            return [], None
        valid: list[InputEvent] = []
        reason: str | None = None
        for event in record.each() if isinstance(record, events.Shadows) else (record,):
            if (why := self.validation_error(event)) is None:
                valid.append(event)
            else:
                reason = why
        return valid, reason

    def validation_error(self, event: InputEvent) -> str | None:
        """Why an event can't be evidence, or None."""
        if not 0 <= event.at <= _LATEST:
            return f"{event.at!r} is not a time in seconds since 1970"
        if isinstance(event, events.Outcome):
            return self._label_error(event.value)
        if event.output is None:
            return None if isinstance(event, events.Shadow) else "a prediction has an output"
        versions = [event.model]
        if isinstance(event, events.Prediction):
            versions = [event.champion, *([event.holdout.previous] if event.holdout else [])]
        errors = (error for version in versions if (error := self._version_error(version)) is not None)
        return next(errors, None) or self._output_error(event.output)

    def _version_error(self, version: str) -> str | None:
        if version not in self._known_versions:
            try:
                self._registry.get(version)
            except ModelUnusable as error:
                return str(error)
            self._known_versions.add(version)
        return None

    def _label_error(self, value: Label) -> str | None:
        if self.task is Task.CLASSIFICATION:
            return None if value in self.classes else f"the outcome {value!r} is none of {list(self.classes)}"
        if isinstance(value, bool | str) or not abs(value) <= _LARGEST:
            return f"the outcome {value!r} is not a number of a usable size"
        return None

    def _output_error(self, output: list[float] | float) -> str | None:
        if self.task is Task.REGRESSION:
            if isinstance(output, list) or not abs(output) <= _LARGEST:
                return f"the output {output!r} is not a number of a usable size"
        elif (
            not isinstance(output, list)
            or len(output) != len(self.classes)
            or not (min(output) >= 0 and max(output) <= 1 + 1e-9 and abs(sum(output) - 1) < _ROUNDING)
        ):
            return f"the output {output!r} is not a distribution over {len(self.classes)} classes"
        return None
