"""Texts that a model was not fitted with: its encoder takes them for missing, and no error says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gauntlet.registry.model_inputs import inputs
from gauntlet.spelling import folded

_LEAST_RESPELT = 0.001
"""Share of values in another spelling from which they are told: a few are typing errors."""
_MOST_UNKNOWN = 0.5
"""Share of values that are new from which it is told: a few are to be expected."""
_NAMED = 3


def known_texts(model: Any, names: Sequence[str]) -> dict[str, frozenset[str]]:
    """By feature, the texts that the model's encoders were fitted with; without those of which nothing is known."""
    return {name: found.texts for name, found in zip(names, inputs(model, names), strict=True) if found.texts}


def unknown_texts(
    who: str, known: Mapping[str, frozenset[str]], counts: Mapping[str, Mapping[str, int]]
) -> Iterator[str]:
    """Sentences on columns of which the model knows too few values. counts: by column, how often each text occurs."""
    for name, texts in known.items():
        found = counts.get(name, {})
        rows = sum(found.values())
        forms = {folded(text): text for text in sorted(texts)}
        new = {text: count for text, count in found.items() if text not in texts}
        respelt = {text: count for text, count in new.items() if folded(text) in forms}
        if sum(respelt.values()) > _LEAST_RESPELT * rows:
            most = sorted(respelt, key=lambda text: (-respelt[text], text))[:_NAMED]
            said = ", ".join(f"{text!r} for {forms[folded(text)]!r}" for text in most)
            yield (
                f"{sum(respelt.values()):,} of {rows:,} values of {name} are spelt otherwise than {who} knows them, "
                f"and are to it as good as missing: {said}"
            )
        elif sum(new.values()) > _MOST_UNKNOWN * rows:
            most = sorted(new, key=lambda text: (-new[text], text))[:_NAMED]
            yield (
                f"{sum(new.values()):,} of {rows:,} values of {name} are none that {who} was fitted with, and are to "
                f"it as good as missing: {', '.join(map(repr, most))}"
            )
