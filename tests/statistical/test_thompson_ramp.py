"""Thompson allocation over a whole ramp: looks, decisions and state machine together, seeded, beside fixed shares."""

from __future__ import annotations

import msgspec
import numpy as np
from builders.decision_loop import look
from builders.statistics import at_most

from evaluator.stats import NoAnswer, Plan, SplitSums, State, advance, split_blocks
from evaluator.stats.score_process import arms_of
from evaluator.stats.thompson import Contrast, contrast_allocation
from gauntlet.config.load import parse
from gauntlet.rollout import Control, Rollout, Stage
from gauntlet.transitions import apply
from gauntlet.types import VerdictCause
from retrainer.decisions import decide

HOUR = 3_600.0
CONFIG = parse(
    "experiment: e\ntask: classification\nslots: 3\nchampion: {model: m.skops}\nthompson: {enabled: true, every: 6h}\n"
)
SHARES = (0.10, 0.05, 0.10)
EFFECTS = np.array([0.02, -0.02, 0.0])
SPREAD, PAIRS = 0.5, 400  # of one pair's difference; pairs an hour
HOURS = 7 * 24
BLOCKS, UNITS = 30, 200


def begun() -> Control:
    rollouts = tuple(
        Rollout(
            id=f"e-r{n:04d}",
            challenger=f"v{n + 1}",
            stages=(Stage(share=share, min_seconds=1e9),),
            stage=0,
            slot=n - 1,
            started_at=0.0,
            stage_since=0.0,
            shadow=Stage(share=0.0, min_seconds=0.0),
        )
        for n, share in enumerate(SHARES, 1)
    )
    return Control(experiment="e", champion="v1", begun=3, slots=3, rollouts=rollouts)


def served(seed: int) -> tuple[list[Control], float]:
    """The control record of every hour of a week, and the effect that the ramp's users met, summed over their hours."""
    rng, record, records, gain = np.random.default_rng(seed), begun(), [], 0.0
    sums = np.zeros(3)
    for hour in range(1, HOURS + 1):
        gain += float(np.dot([rollout.share for rollout in record.rollouts], EFFECTS))
        sums += rng.normal(PAIRS * EFFECTS, SPREAD * np.sqrt(PAIRS))
        n = PAIRS * hour
        found = contrast_allocation([Contrast(n, float(s / n), SPREAD / n**0.5) for s in sums])
        assert not isinstance(found, NoAnswer)
        for rollout, share in zip(record.rollouts, found.shares[1:], strict=True):
            event = msgspec.structs.replace(
                look("e", 0.0),
                at=hour * HOUR,
                rollout=rollout.id,
                champion="v1",
                challenger=rollout.challenger,
                cause=VerdictCause.EVIDENCE_INCOMPLETE,
                ramp_share=share,
            )
            command = decide(record, event, CONFIG, event.at)
            record = record if command is None else apply(record, command, event.at)
        records.append(record)
    return records, gain


def test_a_week_on_the_ramp_gives_the_best_its_cap_and_the_worst_its_floor() -> None:
    weeks = [served(seed) for seed in range(30)]
    for records, _ in weeks:
        assert all(0.0 < r.share <= r.gate.share for record in records for r in record.rollouts)
        assert records[-1].allocation - 1 <= 3 * HOURS / 6, "each share changes once in six hours at most"
        best, worst, _ = records[-1].rollouts
        assert best.weight >= 0.9
        assert worst.weight <= 0.1
    fixed = HOURS * float(np.dot(SHARES, EFFECTS))
    gains = np.array([gain for _, gain in weeks])
    assert gains.mean() > 1.5 * fixed
    assert gains.min() > 0.0


def test_the_score_process_keeps_its_level_while_the_shares_follow_the_same_outcomes() -> None:
    """What is compared by assignment, at its worst: the shares of each block are made of the outcomes that are tested,
    while the base rate drifts. The difference of the arms' pooled means is a lie there."""
    rng, runs, crossed, naive = np.random.default_rng(11), 120, 0, 0
    test = Plan(horizon=BLOCKS * UNITS * 0.16, min_blocks_win=10, min_blocks_harm=5)
    for _ in range(runs):
        sums: list[SplitSums] = []
        state, share = State.start(test), 0.2
        for number in range(BLOCKS):
            treated = rng.random(UNITS) < share
            y = (rng.random(UNITS) < 0.3 + 0.4 * number / BLOCKS).astype(np.float64)
            sums.append(SplitSums())
            sums[-1].add(treated, share, y)
            blocks = split_blocks(sums)
            scores, information = sum(b.score for b in blocks), sum(b.information for b in blocks)
            if information and number >= 3:
                error = sum(b.variance for b in blocks) ** 0.5 / information
                found = contrast_allocation([Contrast(1000, scores / information, error)], floor=0.05)
                assert not isinstance(found, NoAnswer)
                share = 0.4 * found.shares[1]
            if number % 5 == 4:
                state, _ = advance(state, blocks, test)
        crossed += state.stop is not None
        champion, challenger = arms_of(split_blocks(sums))
        rate = (champion.total + challenger.total) / (champion.n + challenger.n)
        spread = (rate * (1 - rate) * (1 / champion.n + 1 / challenger.n)) ** 0.5
        naive += abs(champion.total / champion.n - challenger.total / challenger.n) > 1.96 * spread
    assert crossed <= at_most(runs, 0.05)
    assert naive > at_most(runs, 0.05)
