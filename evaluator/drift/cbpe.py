"""CBPE: confidence-based performance estimation, the accuracy without outcomes from calibrated scores (as in NannyML).

It holds only while the concept does, so that it is marked `estimated` and never CRITICAL by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluator.drift.columns import Column, read_numbers
from evaluator.drift.grid import Floats, Ints
from evaluator.drift.performance import MetricChange, compare_metric

BINS = 1024
"""Bins of the score."""
_UNIT = 1_000_000
"""Expected accuracy is in whole millionths, so that sums are exact and add in any order."""


@dataclass(frozen=True, slots=True)
class ScoreReference:
    """The score's calibration on the reference: `table` is the expected accuracy of each of `BINS` bins in millionths;
    `rows` and `hits` give the reference's accuracy."""

    table: tuple[int, ...]
    rows: int
    hits: int

    @classmethod
    def fit(cls, scores: Column, targets: Column) -> ScoreReference | None:
        """The reference from out-of-sample probabilities of outcome 1 and the outcomes, of one length.

        The share of ones by bin is made monotone by isotonic regression (Zadrozny and Elkan 2002). None if the outcomes
        are not 0 and 1, or fewer than 100 rows have both.
        """
        from scipy.optimize import isotonic_regression  # slow to import, and only needed to fit

        if len(scores) != len(targets):
            raise ValueError(f"{len(targets)} targets with {len(scores)} scores")
        score, truth = read_numbers(scores)[0], read_numbers(targets)[0]
        known = np.isfinite(score) & np.isfinite(truth)
        score, truth = score[known], truth[known]
        if len(score) < 100 or not np.isin(truth, (0.0, 1.0)).all():
            return None
        slot = _slots(score)
        rows = np.bincount(slot, minlength=BINS).astype(np.float64)
        ones = np.bincount(slot, weights=truth, minlength=BINS)
        used = np.flatnonzero(rows)
        share = isotonic_regression(ones[used] / rows[used], weights=rows[used]).x
        probability = np.interp(np.arange(BINS), used, share)
        says_one = np.arange(BINS) >= BINS // 2
        right = np.where(says_one, probability, 1.0 - probability)
        hits = int(np.count_nonzero((slot >= BINS // 2) == (truth == 1.0)))
        return cls(tuple(np.round(right * _UNIT).astype(np.int64).tolist()), len(score), hits)

    def expected_hits(self, scores: Column) -> Ints:
        """Expected hits of each score in millionths, shape (rows,); -1 for no score."""
        score, _ = read_numbers(scores)
        known = np.isfinite(score)
        found = np.full(len(score), -1, dtype=np.int64)
        found[known] = np.asarray(self.table, dtype=np.int64)[_slots(score[known])]
        return found

    @staticmethod
    def sums_of(expected: Ints) -> Ints:
        """Rows, expected hits and their squares in millionths, shape (3,); rows without a score are left out."""
        known = expected[expected >= 0]
        return np.array([len(known), known.sum(), (known * known // _UNIT).sum()], dtype=np.int64)

    def estimated_change(self, sums: Ints, *, limit: float, z: float, inflation: float = 1.0) -> MetricChange | None:
        """The estimated accuracy of a window's `sums` against the reference's accuracy, or None without rows."""
        rows = float(sums[0])
        if rows == 0:
            return None
        mean = float(sums[1]) / rows / _UNIT
        variance = max(0.0, float(sums[2]) / rows / _UNIT - mean**2)
        was = self.hits / self.rows
        reference = (was, was * (1.0 - was), float(self.rows))
        now = (mean, variance, rows)
        return compare_metric("accuracy", reference, now, limit=limit, z=z, inflation=inflation, estimated=True)


def _slots(scores: Floats) -> Ints:
    return np.clip(scores * BINS, 0, BINS - 1).astype(np.int64)
