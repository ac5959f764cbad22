"""What a blind policy would have served: each part of it against the demo's own training, flight by flight."""

import numpy as np
import pytest
from builders import demo_year
from sklearn.metrics import log_loss

from gauntlet.cli.demo import flights as demo
from gauntlet.cli.demo.blind_refits import ALL, FIRST_REFIT, Hindsight, blind, policies, with_broken
from gauntlet.cli.demo.replay import Submission
from gauntlet.cli.demo.report_model import Month

DAYS, A_DAY = 80, 40
CELSIUS = Submission(day=40, name="celsius", train=demo.train_in_celsius, reason="")
NO_IMPUTER = Submission(day=60, name="no-imputer", train=demo.train_without_imputer, reason="")


@pytest.fixture(scope="module")
def year() -> demo.Flights:
    found = demo_year.flights(DAYS, A_DAY)
    humid = list(found.columns["humid"])
    humid[::10] = [None] * len(humid[::10])
    return demo.Flights(**{**vars(found), "columns": {**found.columns, "humid": humid}})


@pytest.fixture(scope="module")
def hindsight(year: demo.Flights) -> Hindsight:
    return Hindsight(year, len(year))


def first(year: demo.Flights) -> np.ndarray:
    return np.where(np.isnan(year.late), np.nan, 7.0)


def test_a_refit_is_the_demos_model_on_what_was_known(year: demo.Flights, hindsight: Hindsight) -> None:
    served = blind(hindsight, first(year), every=30, window=ALL)
    start = FIRST_REFIT * A_DAY
    assert (served[:start][hindsight.known[:start]] == 7.0).all()
    learned = [i for i in range(start) if hindsight.seen[i] < FIRST_REFIT]
    rows = year.rows()
    model = demo.train([rows[i] for i in learned], year.late[learned])
    judged = [i for i in range(start, start + 30 * A_DAY) if hindsight.known[i]]
    wanted = log_loss(year.late[judged], model.predict_proba([rows[i] for i in judged]))
    assert served[judged].mean() == pytest.approx(wanted, rel=1e-3)  # its median is of another order of columns
    assert np.isnan(served[~hindsight.known]).all()


def test_a_broken_model_is_served_until_the_next_refit(year: demo.Flights, hindsight: Hindsight) -> None:
    clean = blind(hindsight, first(year), every=7, window=60)
    served = with_broken(hindsight, clean, every=7, submissions=[CELSIUS])
    differs = ~np.isclose(clean, served, equal_nan=True)
    days = np.unique(np.floor(hindsight.day[differs]))
    assert days.tolist() == [41, 42, 43, 44]  # handed in at the end of day 40; the next refit is on day 45
    assert served[differs].mean() > clean[differs].mean()


def test_what_a_broken_model_can_not_answer_is_counted(year: demo.Flights, hindsight: Hindsight) -> None:
    clean = blind(hindsight, first(year), every=30, window=ALL)
    served = with_broken(hindsight, clean, every=30, submissions=[NO_IMPUTER])
    missing = [i for i in range(len(year)) if year.columns["humid"][i] is None and 61 <= hindsight.day[i] < 68]
    assert np.flatnonzero(np.isinf(served)).tolist() == missing


def test_the_table_has_gauntlet_last_and_the_same_flights(year: demo.Flights) -> None:
    of_month = {number: int((year.month == number).sum()) for number in (1, 2, 3)}
    months = [
        Month(month=m, flights=n, outcomes=n, served={}, log_loss=0.3, log_loss_first=0.6, accuracy=1, accuracy_first=1)
        for m, n in of_month.items()
    ]
    total = Month(
        month=0,
        flights=len(year),
        outcomes=1,
        served={},
        log_loss=0.3,
        log_loss_first=0.6,
        accuracy=1,
        accuracy_first=1,
    )
    kept, monthly, weekly, ours = policies(
        year, len(year), np.full(len(year), 0.4), [CELSIUS, NO_IMPUTER], total, months
    )
    assert (kept.log_loss, ours.log_loss) == (0.6, 0.3)
    assert monthly.unanswered > 0
    assert weekly.log_loss is not None
    assert weekly.log_loss_with_broken is not None
    assert weekly.log_loss_with_broken > weekly.log_loss
    assert [len(each.months) for each in (kept, monthly, weekly, ours)] == [3, 3, 3, 3]
