"""One real prediction before a model is accepted: on a row of the reference, or on one made up from its schema."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from math import inf
from typing import Any

import msgspec

from gauntlet.errors import ModelUnusable
from gauntlet.registry.artifact import FunctionModel, Predictor
from gauntlet.registry.model_schema import Fitted
from gauntlet.registry.reference import Reference

_QUICK = 0.05  # seconds: far below the limits by default
_TIMED = 3
"""Calls that are timed where they are slow, of which the shortest counts: a busy machine stalls any one of them."""
_SHOWN = 200  # characters of a row in a message: a model may have hundreds of features
_NUMBERS, _TEXT = (1.0, 0.5, 0.0), "text"  # of features of which the model knows no value


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What was sent, what came back, and how long a later call took: the first one warms up."""

    row: dict[str, Any]
    output: list[float] | float
    made_up: bool
    seconds: float

    def __str__(self) -> str:
        origin = "made up" if self.made_up else "of the reference"
        return f"sent {_shown(self.row)} ({origin}), got {_shown(self.output)} in {1000 * self.seconds:.3g} ms"


def predict(predictor: Predictor, fitted: Fitted, reference: Reference | None) -> Trial:
    """Ask `predictor` for one row, and for the same row twice. Raises `ModelUnusable` with what was sent and got."""
    row = _row_of(reference) if reference is not None else None
    if row is not None:
        return _try(predictor, row, fitted, made_up=False)
    failures = []
    for number in _NUMBERS:
        row = {
            f.name: fitted.examples.get(f.name, number if f.kind == "number" else _TEXT) for f in fitted.schema.features
        }
        try:
            return _try(predictor, row, fitted, made_up=True)
        except ModelUnusable as error:  # one value may be what the model can't take; not all of them
            failures.append(error)
    raise failures[0]


def _try(predictor: Predictor, row: dict[str, Any], fitted: Fitted, *, made_up: bool) -> Trial:
    output = _asked(predictor, [row], fitted, made_up)[0]
    seconds = inf
    for _ in range(_TIMED):
        began = time.perf_counter()
        _asked(predictor, [row, row], fitted, made_up)  # as concurrent requests are put together
        seconds = min(seconds, time.perf_counter() - began)
        if seconds < _QUICK:
            break
    return Trial(row=row, output=output, made_up=made_up, seconds=seconds)


def _row_of(reference: Reference) -> dict[str, Any] | None:
    """The first row without a missing value, else the first; None without any."""
    names = list(reference.columns)
    rows = list(zip(*reference.columns.values(), strict=True))
    whole = next((row for row in rows if None not in row), rows[0] if rows else None)
    return None if whole is None else dict(zip(names, whole, strict=True))


def _asked(predictor: Predictor, rows: Sequence[dict[str, Any]], fitted: Fitted, made_up: bool) -> list[Any]:
    """Valid answers to `rows`."""
    try:
        output = predictor.predict(rows)
        valid = predictor.valid(output)
    except Exception as error:  # the user's model may raise anything
        raise ModelUnusable(_refusal(predictor, rows, fitted, made_up, f"{type(error).__name__}: {error}")) from error
    if not valid.all():
        kind = "probabilities" if fitted.schema.classes else "a finite number"
        raise ModelUnusable(
            _refusal(predictor, rows, fitted, made_up, f"{_shown(output.tolist())}, which is not {kind}")
        )
    found: list[Any] = output.tolist()
    return found


def _refusal(predictor: Predictor, rows: Sequence[dict[str, Any]], fitted: Fitted, made_up: bool, got: str) -> str:
    sent = _shown(rows[0]) + (f" {len(rows)} times, as in a batch" if len(rows) > 1 else "")
    hints = []
    if isinstance(predictor.model, FunctionModel):
        hints.append("the function is called with a list of such rows, and returns one answer for each")
    if fitted.assumed:
        names = ", ".join(fitted.assumed[:5]) + (", …" if len(fitted.assumed) > 5 else "")
        hints.append(
            f"nothing tells whether {names} are numbers: write {{name: {fitted.assumed[0]}, kind: text}} under "
            "`features` for a text"
        )
    if made_up:
        hints.append("the row is made up: give `champion.reference` to try a real one")
    tail = "".join(f"; {hint}" for hint in hints)
    return f"the model can't answer a row of its own features: sent {sent}, got {got}{tail}"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
