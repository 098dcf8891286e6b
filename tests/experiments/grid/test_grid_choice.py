"""The chosen trial, and what is said about the difference between two methods."""

import numpy as np
import pytest
from scipy import stats

from experiments.grid.choose import best_trials, latest
from experiments.grid.compare import difference, tallies
from experiments.grid.plan import Place

HERE = Place("a", "b", 10)


def _record(method, weight, validation, accuracy=None, rate=0.01, batch_size=10):
    record = {"record": "cell", "source": "a", "target": "b", "from": "A", "to": "B"}
    record |= {"batch_size": batch_size, "method": method, "weight": weight}
    record |= {"learning_rate": rate, "validation": validation, "step": 10}
    return record | ({"accuracy": accuracy} if accuracy else {"diverged": "at 3"})


def test_the_trial_is_chosen_by_validation_and_not_by_test():
    records = [
        _record("kd", 0.1, [60.0, 60.0], [99.0, 99.0]),
        _record("kd", 1.0, [61.0, 61.0], [10.0, 10.0]),
        _record("kd", 10.0, [90.0, 90.0]),  # diverged
    ]
    best = best_trials(latest(records))
    assert best[HERE, "kd"]["weight"] == 1.0


@pytest.mark.parametrize("reverse", [False, True])
def test_of_equal_trials_the_smallest_weight_or_rate_counts(reverse):
    records = [
        _record("kd", 0.1, [50.0, 70.0], [1.0, 1.0]),
        _record("kd", 1.0, [60.0, 60.0], [2.0, 2.0]),
        _record("plain", None, [60.0, 60.0], [3.0, 3.0], rate=0.1),
        _record("plain", None, [60.0, 60.0], [4.0, 4.0], rate=0.3),
    ]
    best = best_trials(latest(records[::-1] if reverse else records))
    assert best[HERE, "kd"]["weight"] == 0.1
    assert best[HERE, "plain"]["learning_rate"] == 0.1


def test_a_cell_that_was_run_again_counts_as_it_came_out_last():
    failed = _record("kd", 0.1, [60.0, 60.0])
    again = _record("kd", 0.1, [60.0, 60.0], [9.0, 9.0])
    (record,) = latest([failed, again]).values()
    assert record["accuracy"] == [9.0, 9.0]


def test_the_interval_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    values, others = rng.normal(2, 1, 10), rng.normal(0, 1, 10)
    gap = difference(list(values), list(others))
    low, high = stats.ttest_rel(values, others).confidence_interval(0.95)
    np.testing.assert_allclose(gap.mean - gap.half_width, low)
    np.testing.assert_allclose(gap.mean + gap.half_width, high)
    assert (gap.wins, gap.seeds) == (int((values > others).sum()), 10)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([1.0, 1.1, 0.9], "above"),
        ([-1.0, -1.1, -0.9], "below"),
        ([3.0, -2.0, 1.0], "equal"),
        ([0.0, 0.0, 0.0], "equal"),
        ([0.5, 0.5, 0.5], "above"),
    ],
)
def test_the_verdict_is_where_the_interval_lies(gains, verdict):
    assert difference([50 + x for x in gains], [50.0] * 3).verdict == verdict


def test_the_tally_counts_places_in_which_both_are_there():
    records = []
    for size, shift in ((10, 2.0), (50, -2.0), (100, None)):
        base = [50.0, 60.0, 70.0]
        records.append(_record("kd", 1.0, base, base, batch_size=size))
        records.append(_record("plain", None, base, base, batch_size=size))
        if shift is not None:
            moved = [x + shift for x in base]
            records.append(_record("kd-layer", 1.0, base, moved, batch_size=size))
    found = tallies(best_trials(latest(records)), ("plain", "kd", "kd-layer"))
    counts = {(one.name, one.other): dict(one.counts) for one in found}
    assert counts == {
        ("kd", "plain"): {"equal": 3},
        ("kd-layer", "kd"): {"above": 1, "below": 1},
        ("kd-layer", "plain"): {"above": 1, "below": 1},
    }
