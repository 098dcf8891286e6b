"""Means, paired differences, intervals and Holm's correction, against known values."""

import numpy as np
import pytest
from scipy import stats

from experiments.statistics import Estimate, difference, estimate, holm, number


def test_an_estimate_is_mean_and_standard_error():
    found = estimate([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5
    assert found.standard_error == pytest.approx((5 / 3) ** 0.5 / 2)
    assert found.seeds == 4


def test_differences_are_paired_by_seed():
    # 1, 2 and 3: that the seeds themselves differ by tens does not count.
    found = difference([11.0, 52.0, 93.0], [10.0, 50.0, 90.0])
    assert found.mean == 2
    assert found.standard_error == pytest.approx(1 / 3**0.5)
    with pytest.raises(ValueError):  # noqa: PT011 (the words are NumPy's)
        difference([1.0, 2.0, 3.0], [1.0, 2.0])


def test_the_interval_and_the_verdict_are_students():
    assert Estimate(0.0, 1.0, 10).half_width == pytest.approx(2.262157, abs=1e-6)
    assert Estimate(0.0, 2.0, 3).half_width == pytest.approx(2 * 4.302653, abs=1e-5)
    means = 2.27, 2.25, 0.0, -2.25, -2.27
    assert "".join(Estimate(x, 1.0, 10).verdict for x in means) == "▲===▼"


def test_the_p_value_is_scipys():
    gains = np.random.default_rng(0).normal(-0.3, 1.0, 10)
    expected = stats.ttest_1samp(gains, 0.0, alternative="less").pvalue
    assert estimate(gains).p_below == pytest.approx(expected)


def test_seeds_that_all_agree_leave_no_doubt():
    base = np.array([90.7, 64.3, 0.1])
    found = [difference(base + gain, base) for gain in (-0.1, 0.0, 0.1)]
    assert [one.standard_error for one in found] == pytest.approx([0, 0, 0])
    assert [one.verdict for one in found] == ["▼", "=", "▲"]
    assert [one.p_below for one in found] == pytest.approx([0, 0.5, 1])


def test_holm_corrects_a_textbook_case_in_its_order():
    found = holm([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == [0.8, 0.9]
    assert holm([0.7, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_numbers_are_written_with_a_sign_and_a_true_minus():
    values = 1.25, -34.94, -0.04, 0.0, -0.06
    assert [*map(number, values)] == ["+1.2", "−34.9", "+0.0", "+0.0", "−0.1"]
    assert number(-12.6, 0) == "−13"
    assert str(Estimate(-1.25, 0.333, 5)) == "−1.2 ± 0.3"
    assert Estimate(86.31, 0.5, 5).percent == "86.3 ± 0.5 %"
