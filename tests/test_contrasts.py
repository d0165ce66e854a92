"""Paired comparisons that are judged together, against scipy and Holm's method by definition."""

import itertools
import math

import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from common.judge.contrasts import beyond_margin, contrasts, direction
from common.judge.stats import Estimate, holm, paired_p_value

BASE = [0.50, 0.52, 0.49, 0.51, 0.53]
GAINS = [0.02, 0.01, 0.03, 0.00, 0.04]


def test_holm_of_a_worked_example() -> None:
    # In order: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 1 x 0.04, which may not be below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_holm_is_the_closure_of_bonferroni(p_values: list[float]) -> None:
    """A hypothesis is rejected if every intersection with it is: by Bonferroni's test of each set
    of hypotheses."""
    everything = range(len(p_values))
    sets = [
        chosen for size in everything for chosen in itertools.combinations(everything, size + 1)
    ]
    expected = [
        max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in sets if i in s)
        for i in everything
    ]
    assert holm(p_values) == pytest.approx(expected)


def test_paired_p_value() -> None:
    other = [base + gain for base, gain in zip(BASE, GAINS, strict=True)]
    expected = scipy.stats.ttest_rel(other, BASE).pvalue
    assert paired_p_value(BASE, other) == pytest.approx(expected)
    assert paired_p_value(other, BASE) == pytest.approx(expected)
    # Differences 0.02 of deviation 0.0158: t = 2.83 at 4 degrees of freedom.
    assert paired_p_value(BASE, other) == pytest.approx(0.0474, abs=1e-4)


def test_p_values_of_pairs_that_tell_nothing_or_all() -> None:
    assert paired_p_value([0.5], [0.9]) == 1
    assert paired_p_value(BASE, BASE) == 1
    assert paired_p_value([1.0, 2.0], [2.0, 3.0]) == 0
    with pytest.raises(ValueError, match="1 and 2 seeds"):
        paired_p_value([1.0], [1.0, 2.0])


def test_contrasts_are_adjusted_together() -> None:
    """Alone the first is decided, beside a second one it is not; a certain one stays so."""
    other = [base + gain for base, gain in zip(BASE, GAINS, strict=True)]
    worse = [base - 0.1 - gain / 10 for base, gain in zip(BASE, GAINS, strict=True)]
    alone = contrasts({"first": (BASE, other)})
    assert alone["first"].is_better is True
    both = contrasts({"first": (BASE, other), "second": (other, BASE)})
    assert both["first"].p_value == pytest.approx(2 * alone["first"].p_value)
    assert both["first"].is_better is None and both["second"].is_better is None
    found = contrasts({"first": (BASE, other), "second": (BASE, worse)})
    assert found["second"].is_better is False and found["first"].is_better is True
    assert found["first"].difference.value == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.011, 0.02, "better"),
        (0.01, 0.02, "undecided"),
        (0.002, 0.004, "undecided"),
        (-0.02, -0.011, "worse"),
        (-0.02, 0.02, "undecided"),
        (math.nan, math.nan, "undecided"),
    ],
)
def test_beyond_a_margin(low: float, high: float, expected: str) -> None:
    estimate = Estimate((low + high) / 2, low, high, 8)
    assert direction(beyond_margin(estimate, 0.01)) == expected
