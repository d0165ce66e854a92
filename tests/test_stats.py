"""Statistics against brute force and known answers."""

import json
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from common.judge.stats import (
    Estimate,
    area_under_roc,
    compare_paired,
    exponent_difference,
    fit_power_law,
    learning_time,
    median,
    median_over_seeds,
    paired_difference,
    proportion,
    quantiles_by_cluster,
    ratio_of_medians,
)
from common.judge.verdict import describe
from common.runs.tuning import RateResult, best_rate

INF = math.inf
times = st.lists(st.one_of(st.integers(1, 50).map(float), st.just(INF)), min_size=1, max_size=12)


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=30), st.integers(1, 4))
def test_learning_time_is_the_first_sustained_crossing(
    curve: list[float | None], sustained: int
) -> None:
    examples = [10 * i for i in range(len(curve))]
    good = [value is not None and value >= 0.9 for value in curve]
    expected = next(
        (
            examples[i]
            for i in range(len(curve))
            if i + sustained <= len(curve) and all(good[i : i + sustained])
        ),
        INF,
    )
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
def test_a_median_lies_in_its_interval(values: list[float]) -> None:
    estimate = median_over_seeds(values)
    assert (
        estimate.low <= estimate.value <= estimate.high
        if len(values) >= 5
        else math.isnan(estimate.low) and math.isnan(estimate.high)
    )
    assert estimate.num_censored == sum(map(math.isinf, values))


def test_the_median_of_nothing() -> None:
    assert math.isnan(median_over_seeds([]).value)


def test_the_interval_of_a_median_is_interpolated() -> None:
    """Of ten values between the second (97.9%) and the third (89.1%) of either side, by the weights
    of Hettmansperger and Sheather."""
    assert median_over_seeds(range(5)) == Estimate(2, 0, 4, 5)
    estimate = median_over_seeds(range(1, 11))
    excess = (0.978515625 - 0.95) / (0.978515625 - 0.890625)
    inward = 8 * excess / (2 + 6 * excess)
    assert (estimate.low, estimate.high) == (pytest.approx(2 + inward), pytest.approx(9 - inward))


def test_censored_seeds_widen_the_interval_of_a_median() -> None:
    assert median_over_seeds([1, 2, 3, 4, 5, 6, 7, INF]).high == INF, "one of eight may be the end"
    assert median_over_seeds([*range(1, 10), INF]).high < 9, "one of ten is not"
    assert median_over_seeds([1.0, *[INF] * 9]) == Estimate(INF, INF, INF, 10, 9)
    assert median_over_seeds([1.0, *[INF] * 7]).low == 1, "the end that has learnt"


def test_few_values_claim_no_interval() -> None:
    """Three students of one teacher on one stream of examples agree to the digit; that is no
    certainty about another teacher."""
    assert describe(median_over_seeds([1.02] * 3)) == "1.02 (3 seeds)"
    assert describe(median_over_seeds([1.02] * 5)) == "1.02 [1.02, 1.02] (5 seeds)"
    assert (
        describe(median_over_seeds([100.0, INF, INF]), "examples")
        == "beyond budget examples (3 seeds, 2 censored)"
    )
    assert describe(ratio_of_medians([100.0] * 3, [102.0] * 3)) == "1.02 (3 seeds)"
    assert describe(ratio_of_medians([INF] * 3, [INF] * 3)) == "undefined (3 seeds, 3 censored)"
    assert (
        describe(area_under_roc([1, 2] * 8, [False, True] * 8, [0, 0, 1, 1] * 4)) == "1 (2 seeds)"
    )
    assert describe(paired_difference([0.1], [0.3])) == "0.2 (1 seeds)"


def test_proportion_is_clopper_pearson() -> None:
    estimate = proportion(7, 8)
    assert estimate.low == pytest.approx(scipy.stats.beta.ppf(0.025, 7, 2))
    assert estimate.high == pytest.approx(scipy.stats.beta.ppf(0.975, 8, 1))


def test_a_proportion_of_numpy_s_counts_can_be_written() -> None:
    share = proportion(np.sum(np.asarray([True, True, False])), 3)  # type: ignore[arg-type]
    assert json.loads(json.dumps({"holds": share.value >= 0.5, "value": share.value})) == {
        "holds": True,
        "value": 2 / 3,
    }


def test_paired_comparison() -> None:
    result = compare_paired([10, 20, 30, INF, INF], [5, 40, 15, 100, INF])
    assert (result.wins, result.losses) == (3, 1)
    assert result.ratio.value == median([0.5, 2.0, 0.5, 0.0])
    assert (result.ratio.num_seeds, result.num_undefined) == (
        4,
        1,
    ), "neither of the last pair has learnt: it has no ratio"
    assert result.p_value == pytest.approx(scipy.stats.binomtest(3, 4).pvalue)
    with pytest.raises(ValueError, match="paired"):
        compare_paired([1], [1, 2])


def test_ratio_of_medians() -> None:
    many = [10, 20, 30, 40, 50, 60, 70, 80], [30, 10, 60, 20, 90, 50, 40, 70]
    wide, narrow = (ratio_of_medians(*many, level=level) for level in (0.95, 0.8))
    assert wide.low < narrow.low < narrow.high < wide.high and wide.value == narrow.value
    estimate = ratio_of_medians([10, 20, 30] * 2, [20, 40, 60] * 2)
    assert estimate.value == 2
    assert estimate.low <= 2 <= estimate.high
    assert ratio_of_medians([10, 20, 30], [INF, INF, 5]).value == INF


def test_two_censored_medians_have_no_ratio() -> None:
    both = ratio_of_medians([INF] * 5 + [10], [INF] * 6)
    assert all(map(math.isnan, (both.value, both.low, both.high)))
    assert (both.num_seeds, both.num_censored) == (6, 6)
    # Half the seeds learnt by neither: many resamples have no ratio, and so no bound.
    some = ratio_of_medians([10, 10, 10, INF, INF], [10, 10, 10, INF, INF])
    assert (some.value, some.low, some.high) == (1, 0, INF)
    assert math.isnan(compare_paired([INF] * 3, [INF] * 3).ratio.value)


def test_best_rate_prefers_speed_then_success_then_accuracy() -> None:
    slow, fast = RateResult(0.1, 100, 6, 1.0), RateResult(0.2, 50, 4, 0.9)
    assert best_rate([slow, fast]) == 0.2
    never = [
        RateResult(0.1, INF, 0, 0.5),
        RateResult(0.2, INF, 2, 0.6),
        RateResult(0.3, INF, 2, 0.7),
    ]
    assert best_rate(never) == 0.3


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=30))
def test_area_under_roc_is_mann_whitneys(cases: list[tuple[int, bool]]) -> None:
    scores, outcomes = [float(score) for score, _ in cases], [outcome for _, outcome in cases]
    area = area_under_roc(scores, outcomes, list(range(len(cases))))
    good, bad = (
        [score for score, outcome in zip(scores, outcomes, strict=True) if outcome == kind]
        for kind in (True, False)
    )
    if not good or not bad:
        assert math.isnan(area.value)
        return
    assert area.value == pytest.approx(
        scipy.stats.mannwhitneyu(good, bad).statistic / (len(good) * len(bad))
    )
    assert area.low <= area.high or len(cases) < 5


def test_area_under_roc_resamples_groups() -> None:
    """Copies of the same cases in one group add nothing; in groups of their own they would."""
    rng = np.random.default_rng(0)
    scores, outcomes = rng.normal(size=12), rng.random(12) < 0.5
    once = area_under_roc(scores.tolist(), outcomes.tolist(), list(range(12)))
    copied = area_under_roc(
        np.tile(scores, 5).tolist(), np.tile(outcomes, 5).tolist(), list(range(12)) * 5
    )
    apart = area_under_roc(
        np.tile(scores, 5).tolist(), np.tile(outcomes, 5).tolist(), list(range(60))
    )
    assert (copied.value, copied.low, copied.high) == pytest.approx(
        (once.value, once.low, once.high)
    )
    assert apart.high - apart.low < 0.7 * (once.high - once.low)


@given(st.floats(0.5, 4), st.floats(1, 1e4), st.integers(0, 2**31), st.integers(0, 4))
@settings(max_examples=10)
def test_power_laws_are_recovered_in_spite_of_noise_and_censoring(
    exponent: float, prefactor: float, seed: int, num_censored: int
) -> None:
    """Noise of 20%, and the slowest seeds of every size censored, which leaves the median where it
    was."""
    sizes = np.array([10.0, 15, 20, 30, 40, 60])
    times = np.sort(
        prefactor
        * sizes[:, None] ** exponent
        * np.exp(0.2 * np.random.default_rng(seed).standard_normal((6, 9))),
        axis=1,
    )
    whole = fit_power_law(sizes.tolist(), times.tolist())
    times[:, 9 - num_censored :] = INF
    law = fit_power_law(sizes.tolist(), times.tolist())
    assert (law.exponent.value, law.prefactor) == (whole.exponent.value, whole.prefactor)
    # A median of 9 has a standard error of 1.25 / 3 of the noise, the exponent that over the root
    # of the sum of squares of the log sizes.
    x = np.log(sizes) - np.log(sizes).mean()
    error = 0.2 * 1.25 / 3 / np.sqrt(np.sum(x**2))
    assert abs(law.exponent.value - exponent) < 5 * error
    assert law.exponent.low <= law.exponent.value <= law.exponent.high
    assert law.exponent.high - law.exponent.low < 12 * error
    assert (law.num_sizes, law.exponent.num_censored) == (6, 6 * num_censored)


def test_the_interval_of_an_exponent_covers_it() -> None:
    """At 95% nominal, at least 32 of 40 data sets (far below that only if the interval is
    wrong)."""
    sizes, covered = [10.0, 20, 30, 50], 0
    for seed in range(40):
        noise = np.exp(0.3 * np.random.default_rng(seed).standard_normal((4, 8)))
        law = fit_power_law(sizes, (np.array(sizes)[:, None] ** 2 * noise).tolist())
        covered += law.exponent.low <= 2 <= law.exponent.high
    assert covered >= 32


def test_a_size_that_most_seeds_do_not_learn_is_left_out_of_the_fit() -> None:
    times = [[float(d**2)] * 4 for d in (10, 20, 30)]
    law = fit_power_law([10, 20, 30, 40], [*times, [1.0, INF, INF, INF]])
    assert (law.exponent.value, law.num_sizes, law.exponent.num_censored) == (
        pytest.approx(2),
        3,
        3,
    )
    assert math.isnan(fit_power_law([10, 20, 30], [*times[:2], [INF] * 4]).exponent.value)


def test_exponent_difference_is_paired() -> None:
    """A factor common to both laws, however it varies over seeds and sizes, drops out of the
    difference."""
    sizes, common = [10.0, 20, 40], np.exp(np.random.default_rng(0).standard_normal((3, 1)))
    a, b = (common * np.array(sizes)[:, None] ** power * np.ones((3, 5)) for power in (1, 2.5))
    estimate = exponent_difference(sizes, a.tolist(), b.tolist())
    assert (estimate.value, estimate.low, estimate.high) == (
        pytest.approx(1.5),
        pytest.approx(1.5),
        pytest.approx(1.5),
    )


def test_a_paired_difference_is_a_paired_t_interval() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=8), rng.normal(0.3, size=8)
    found, expected = (
        paired_difference(a.tolist(), b.tolist()),
        scipy.stats.ttest_rel(b, a).confidence_interval(0.95),
    )
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.value == pytest.approx(np.mean(b - a)) and found.num_seeds == 8
    assert math.isnan(paired_difference([0.1], [0.2]).low)
    with pytest.raises(ValueError, match="2 and 1 seeds"):
        paired_difference([0.1, 0.2], [0.3])


def test_an_interval_over_clusters_does_not_shrink_by_repetition() -> None:
    """Ten copies of every value, in its own cluster, are no more than one; as values of their own
    they would be."""
    values = np.random.default_rng(0).standard_normal(60)
    once = quantiles_by_cluster(values, np.arange(60), 0.5, samples=2000)
    assert (
        quantiles_by_cluster(np.repeat(values, 10), np.repeat(np.arange(60), 10), 0.5, samples=2000)
        == once
    )
    low, high = quantiles_by_cluster(np.repeat(values, 10), np.arange(600), 0.5, samples=2000)
    assert high - low < 0.6 * (once[1] - once[0])


def test_the_interval_over_clusters_covers_the_median() -> None:
    """95% of intervals hold the median of a normal, up to the error of 200 trials; clusters of
    three values that are nearly the same."""
    rng, hits = np.random.default_rng(1), 0
    for trial in range(200):
        values = (rng.standard_normal(40)[:, None] + 0.01 * rng.standard_normal((40, 3))).reshape(
            -1
        )
        low, high = quantiles_by_cluster(
            values, np.repeat(np.arange(40), 3), 0.5, seed=trial, samples=400
        )
        hits += low <= 0 <= high
    assert 180 <= hits <= 199
