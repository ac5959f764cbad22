"""What GrowthBook's gbstats and Spotify's confidence decide on given sums; runs in their own environment.

Invariant: every decision comes from the packages' own formulas, evaluated on arrays, and is checked against their
public interface on a sample of the very looks it was made for.

Reads one request a line, {"sums": FILE.npz}: arms (6, runs, looks), running totals n, Σy, Σy² of champion and
challenger; open (runs, looks), where ours would look; binary; final, the planned units. Answers, for each package as it
comes and for "… gated" (only where ours would look), each run's first significant look: from 1, negative where the
challenger looks worse, 0 for none.
"""

import json
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
from gbstats.frequentist.tests import SequentialConfig, SequentialTwoSidedTTest, frequentist_diff, frequentist_variance
from gbstats.models.statistics import ProportionStatistic, SampleMeanStatistic
from spotify_confidence import ZTest
from spotify_confidence.analysis.constants import (
    DENOMINATOR,
    NUMERATOR,
    NUMERATOR_SUM_OF_SQUARES,
    ORIGINAL_POINT_ESTIMATE,
)
from spotify_confidence.analysis.frequentist.confidence_computers import z_test_computer

CHECKED = 40  # looks of each request that are also put through the public interface
NAMES = {NUMERATOR: "y", DENOMINATOR: "n", NUMERATOR_SUM_OF_SQUARES: "yy"}
KNOWN_BOUNDS = {}


def first_look(sign):
    """Each run's first look that is not 0, with its sign."""
    at = np.argmax(sign != 0, axis=1)
    return np.sign(np.take_along_axis(sign, at[:, None], axis=1)[:, 0]) * (at + 1)


# --- GrowthBook: the sequential engine as it comes (relative uplift, tuning parameter 5000, alpha .05) ---


def gbstats_sign(arms, binary, rng):
    config = SequentialConfig()
    n, y, yy = arms[[0, 3]], arms[[1, 4]], arms[[2, 5]]
    mean = y / n
    variance = mean * (1 - mean) if binary else (yy - y * y / n) / (n - 1)
    known = (n > 1 - binary) & (variance > 0)
    answered = known.all(axis=0) & (mean[0] != 0)
    test = SimpleNamespace(
        stat_a=SimpleNamespace(n=n[0]),
        stat_b=SimpleNamespace(n=n[1]),
        alpha=config.alpha,
        sequential_tuning_parameter=config.sequential_tuning_parameter,
        point_estimate=(mean[1] - mean[0]) / mean[0],
        variance=frequentist_variance(variance[0], mean[0], n[0], variance[1], mean[1], n[1], True),
    )
    test.rho = SequentialTwoSidedTTest.rho.fget(test)
    low, high = SequentialTwoSidedTTest.confidence_interval.fget(test)
    sign = np.where(answered, (low > 0).astype(int) - (high < 0), 0)

    for run, look in zip(rng.integers(n.shape[1], size=CHECKED), rng.integers(n.shape[2], size=CHECKED), strict=True):
        stats = [
            ProportionStatistic(int(a), b) if binary else SampleMeanStatistic(int(a), b, c)
            for a, b, c in zip(n[:, run, look], y[:, run, look], yy[:, run, look], strict=True)
        ]
        found = SequentialTwoSidedTTest(*stats, config).compute_result()
        if found.error_message:
            assert sign[run, look] == 0
        else:
            assert np.isclose(frequentist_diff(stats[0].mean, stats[1].mean, True), test.point_estimate[run, look])
            np.testing.assert_allclose(found.ci, (low[run, look], high[run, look]), rtol=1e-8)
    return sign


# --- Spotify: ZTest with its sequential bounds (alpha spending t², two-sided .05), the final sample size known ---


def confidence_bounds(share):
    key = share.tobytes()
    if key not in KNOWN_BOUNDS:
        KNOWN_BOUNDS[key] = z_test_computer.sequential_bounds(t=share, alpha=0.05, sides=2).df["zb"].to_numpy()
    return KNOWN_BOUNDS[key]


def confidence_sign(arms, binary, final, rng):
    shape = arms.shape[1:]
    some = (arms[0] > 0) & (arms[3] > 0)
    frame = pd.DataFrame(index=np.arange(some.sum()))
    for suffix, part in (("_1", arms[:3]), ("_2", arms[3:])):
        own = pd.DataFrame(dict(zip(("n", "y", "yy"), (column[some] for column in part), strict=True)))
        own[ORIGINAL_POINT_ESTIMATE] = z_test_computer.point_estimate(own, **NAMES)
        # Its test for 0/1 outcomes is one for the whole frame, as it is here: all or none.
        own["variance"] = z_test_computer.variance(own, **NAMES)
        frame["n" + suffix], frame["mean" + suffix] = own["n"], own[ORIGINAL_POINT_ESTIMATE]
        frame["variance" + suffix] = own["variance"]
    error = z_test_computer.std_err(frame, **NAMES)
    z = np.zeros(shape)
    z[some] = np.nan_to_num((frame["mean_2"] - frame["mean_1"]) / error, nan=0.0, posinf=0.0, neginf=0.0)
    total = (arms[0] + arms[3])[0]
    bounds = confidence_bounds(total / max(final, total[-1]))
    sign = (z >= bounds).astype(int) - (z <= -bounds)

    if binary:
        check_confidence(arms[:, rng.integers(len(z))], z, final)
    return sign


def check_confidence(run, z, final):
    """One run's z at twelve looks through `ZTest.difference`."""
    row = np.flatnonzero((run[0] > 0) & (run[3] > 0) & (run[4] > 0))
    looks = row[:: max(1, len(row) // 12)][:12]
    if not len(looks):
        return
    table = pd.concat(
        pd.DataFrame({"arm": arm, "look": looks, "n": part[0][looks], "y": part[1][looks], "final": final})
        for arm, part in (("champion", run[:3]), ("challenger", run[3:]))
    )
    test = ZTest(
        table,
        numerator_column="y",
        numerator_sum_squares_column="y",
        denominator_column="n",
        categorical_group_columns="arm",
        ordinal_group_column="look",
    )
    found = test.difference(
        "champion", "challenger", groupby="look", final_expected_sample_size_column="final", verbose=True
    ).set_index("look")
    mine = np.flatnonzero([np.allclose(z_row[looks], found["difference"] / found["std_err"]) for z_row in z])
    assert len(mine), "no run has the z values that the public interface gives"


def main():
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    rng = np.random.default_rng(1)
    for line in sys.stdin:
        data = np.load(json.loads(line)["sums"])
        arms, binary, final = data["arms"], bool(data["binary"]), float(data["final"])
        answer = {}
        for name, sign in (
            ("gbstats", gbstats_sign(arms, binary, rng)),
            ("confidence", confidence_sign(arms, binary, final, rng)),
        ):
            answer[name] = first_look(sign).tolist()
            answer[name + " gated"] = first_look(np.where(data["open"], sign, 0)).tolist()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
