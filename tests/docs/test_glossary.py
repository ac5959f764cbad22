"""The glossary defines every term that the README, the command line and the status use, and names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in GLOSSARY.splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| term "))
]
DEFINED = {term: (meaning, field, where) for term, meaning, field, where in ROWS}

TERMS = """
    A/A slice, allocation, always-valid inference, archive, arm, assignment, bake, block, boundary, breaker, CBPE,
    certified interval, challenger, champion, checkpoint, control record, cool-down, CUPED, day cluster, dead letter,
    decision, discordance, displaced, e-process, effect, episode, experiment, exposure, fallback, forced request,
    form, gate, gross-harm watch, guardrail, harm block, hold, holdout gate, information, interval, join, label
    arrival, level, level budget, lineage, log, look, margin, metric, multiple exposure, no traffic, optional
    stopping, oracle, outbox, outcome, outcome horizon, pair, pane, planned evidence, power, profile, promotion,
    propensity, quality, ramp, reference, regime, registry, rehearsal, rollback, rollout, root cause, sample ratio,
    scale, segment, severity, shadow, share, signal, slice, stage, state store, successor, Thompson allocation,
    trigger, unit, verdict,
    watermark, window, z
"""


def test_every_declared_term_is_defined_once() -> None:
    declared = {term.strip() for term in " ".join(TERMS.split()).split(",")}
    assert declared <= DEFINED.keys()
    assert len(ROWS) == len(DEFINED), "a term is defined twice"


@pytest.mark.parametrize("term", DEFINED)
def test_a_definition_is_one_or_two_plain_sentences_and_names_an_existing_file(term: str) -> None:
    meaning, field, where = DEFINED[term]
    assert meaning.endswith(".")
    assert 1 <= len(re.findall(r"[.;:](?: |$)", meaning)) <= 4
    assert field
    path = re.fullmatch(r"`(.+)`", where)
    assert path, where
    assert (ROOT / path[1]).is_file(), where
