"""Statistics against brute force and known answers."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from common.stats import area_under_roc, bootstrap, compare_paired, learning_time, median, proportion, ratio_of_medians
from common.tuning import RateResult, best_rate

INF = math.inf
times = st.lists(st.one_of(st.integers(1, 50).map(float), st.just(INF)), min_size=1, max_size=12)


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=30), st.integers(1, 4))
def test_learning_time_is_the_first_sustained_crossing(curve: list[float | None], sustained: int) -> None:
    examples = [10 * i for i in range(len(curve))]
    good = [value is not None and value >= 0.9 for value in curve]
    expected = next((examples[i] for i in range(len(curve)) if i + sustained <= len(curve) and all(good[i : i + sustained])), INF)
    assert learning_time(examples, curve, 0.9, sustained) == expected


def test_learning_time_of_a_late_run_is_censored() -> None:
    assert learning_time([0, 1, 2, 3], [0.5, 0.6, 0.95, 0.95]) == INF
    assert learning_time([0, 1, 2, 3], [0.5, 0.95, 0.95, 0.95]) == 1


@given(times)
def test_median_ranks_censored_seeds_last(values: list[float]) -> None:
    finite = [min(value, 1e12) for value in values]
    expected = float(np.median(finite))
    assert median(values) == (INF if expected > 1e9 else expected)


@given(times)
def test_bootstrap_interval_holds_the_estimate(values: list[float]) -> None:
    estimate = bootstrap(values)
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.num_censored == sum(map(math.isinf, values))
    assert bootstrap(values) == estimate, "a report is reproducible"


def test_bootstrap_covers_the_true_median() -> None:
    rng = np.random.default_rng(0)
    covered = [low.low <= 0 <= low.high for low in (bootstrap(rng.normal(size=25).tolist(), seed=i) for i in range(60))]
    assert np.mean(covered) > 0.85


def test_bootstrap_of_nothing() -> None:
    assert math.isnan(bootstrap([]).value)


def test_proportion_is_clopper_pearson() -> None:
    estimate = proportion(7, 8)
    assert estimate.low == pytest.approx(scipy.stats.beta.ppf(0.025, 7, 2))
    assert estimate.high == pytest.approx(scipy.stats.beta.ppf(0.975, 8, 1))


def test_paired_comparison() -> None:
    result = compare_paired([10, 20, 30, INF, INF], [5, 40, 15, 100, INF])
    assert (result.wins, result.losses) == (3, 1)
    assert result.ratio.value == median([0.5, 2.0, 0.5, 0.0, 1.0])
    assert result.p_value == pytest.approx(scipy.stats.binomtest(3, 4).pvalue)
    with pytest.raises(ValueError, match="paired"):
        compare_paired([1], [1, 2])


def test_ratio_of_medians() -> None:
    estimate = ratio_of_medians([10, 20, 30], [20, 40, 60])
    assert estimate.value == 2
    assert estimate.low <= 2 <= estimate.high
    assert ratio_of_medians([10, 20, 30], [INF, INF, 5]).value == INF


def test_best_rate_prefers_speed_then_success_then_accuracy() -> None:
    slow, fast = RateResult(0.1, 100, 6, 1.0), RateResult(0.2, 50, 4, 0.9)
    assert best_rate([slow, fast]) == 0.2
    never = [RateResult(0.1, INF, 0, 0.5), RateResult(0.2, INF, 2, 0.6), RateResult(0.3, INF, 2, 0.7)]
    assert best_rate(never) == 0.3


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=30))
def test_area_under_roc_is_mann_whitneys(cases: list[tuple[int, bool]]) -> None:
    scores, outcomes = [float(score) for score, _ in cases], [outcome for _, outcome in cases]
    area = area_under_roc(scores, outcomes, list(range(len(cases))))
    good, bad = ([score for score, outcome in zip(scores, outcomes, strict=True) if outcome == kind] for kind in (True, False))
    if not good or not bad:
        assert math.isnan(area.value)
        return
    assert area.value == pytest.approx(scipy.stats.mannwhitneyu(good, bad).statistic / (len(good) * len(bad)))
    assert area.low <= area.high


def test_area_under_roc_resamples_groups() -> None:
    """Copies of the same cases in one group add nothing; in groups of their own they would."""
    rng = np.random.default_rng(0)
    scores, outcomes = rng.normal(size=12), rng.random(12) < 0.5
    once = area_under_roc(scores.tolist(), outcomes.tolist(), list(range(12)))
    copied = area_under_roc(np.tile(scores, 5).tolist(), np.tile(outcomes, 5).tolist(), list(range(12)) * 5)
    apart = area_under_roc(np.tile(scores, 5).tolist(), np.tile(outcomes, 5).tolist(), list(range(60)))
    assert (copied.value, copied.low, copied.high) == pytest.approx((once.value, once.low, once.high))
    assert apart.high - apart.low < 0.7 * (once.high - once.low)
