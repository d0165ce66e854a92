"""Statistics over seeds: learning times with censoring, medians and their intervals, proportions,
paired comparisons.

A run that has not learnt within its budget is censored. Its learning time is `inf` here; it ranks
after all others, and every summary counts it. No average is taken over the seeds that learnt alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

BOOTSTRAP_SAMPLES = 10_000
INTERVALS = (
    "Intervals are nominally 95%. Those of medians interpolate order statistics (Hettmansperger and"
    " Sheather 1986) and cover 94 to 96% from 6 seeds on; of 5 seeds they are the whole range,"
    " 93.75%. Those of ratios of medians and of exponents are percentile bootstraps over seeds,"
    " which cover 93 to 97% in simulations of 5 to 10 seeds; those of areas under ROC, over"
    " teachers, about 90%. Those of proportions are exact (Clopper-Pearson), those of mean"
    " differences Student's."
)
"""How the intervals over seeds are made and what they cover, to be printed beside them; the tests
measure the coverage."""
MIN_SEEDS = 5
"""The fewest values with an interval. The range of fewer covers too little, and a bootstrap of
them (three students of one teacher, say) is too narrow."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval over seeds. An interval that does not exist is NaN; an
    infinite value lies beyond the budget."""

    value: float
    low: float
    high: float
    num_seeds: int
    num_censored: int = 0


@dataclass(frozen=True)
class Paired:
    """A paired comparison over common seeds: the median ratio b/a with its interval, and the
    two-sided sign test of "b differs from a"."""

    ratio: Estimate
    wins: int
    """Pairs in which b is smaller than a."""
    losses: int
    """Pairs in which b is larger. Pairs with equal values, or both censored, count as neither."""
    p_value: float
    num_undefined: int
    """Pairs with both values censored, which have no ratio and are left out of the median."""


@dataclass(frozen=True)
class PowerLaw:
    """A fit of time = prefactor x size^exponent to the medians over seeds, by least squares in the
    logarithms."""

    exponent: Estimate
    """NaN where fewer than three sizes have a finite median. `num_censored` counts the runs of all
    sizes."""
    prefactor: float
    num_sizes: int
    """Sizes in the fit: those at which most seeds learnt."""


def learning_time(
    examples: Sequence[int],
    accuracy: Sequence[float | None],
    threshold: float = 0.9,
    sustained: int = 3,
) -> float:
    """t90: the examples after which accuracy first stays at `threshold` or above for `sustained`
    evaluations; inf if it never does.

    Args:
        examples: examples seen at each evaluation, increasing.
        accuracy: the curve; None where the run had diverged.
        threshold: in [0, 1].
        sustained: number of consecutive evaluations, the first included.
    """
    reached = np.asarray([value is not None and value >= threshold for value in accuracy])
    for i in range(len(reached) - sustained + 1):
        if reached[i : i + sustained].all():
            return float(examples[i])
    return math.inf


def median(values: Sequence[float]) -> float:
    """The median of values that may be inf; of an even count it is inf if one of the middle values
    is."""
    return float(_medians(np.asarray(values, np.float64)))


def median_over_seeds(values: Sequence[float] | np.ndarray) -> Estimate:
    """The median over seeds with its 95% interval, for at least five of them.

    The interval interpolates between two pairs of order statistics, one that covers more and one
    that covers less than 95% (Hettmansperger and Sheather 1986). It covers 94 to 96% whatever the
    distribution. Five values are too few: their whole range covers 93.75%.

    Args:
        values: one value a seed, inf where censored.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count, num_censored = ordered.size, int(np.isinf(ordered).sum())
    value = median(ordered.tolist()) if count else math.nan
    if count < MIN_SEEDS:
        return Estimate(value, math.nan, math.nan, count, num_censored)
    low, high = median_interval(ordered)
    return Estimate(value, float(low), float(high), count, num_censored)


def proportion(successes: int, total: int) -> Estimate:
    """A proportion with its exact (Clopper-Pearson) 95% interval."""
    failures = total - successes
    low = scipy.special.betaincinv(successes, failures + 1, 0.025) if successes else 0.0
    high = scipy.special.betaincinv(successes + 1, failures, 0.975) if failures else 1.0
    # int(), because a count of numpy's would make the value one of numpy's.
    return Estimate(int(successes) / total, float(low), float(high), total)


def ratio_of_medians(
    a: Sequence[float], b: Sequence[float], seed: int = 0, level: float = 0.95
) -> Estimate:
    """median(b) / median(a) over paired seeds; NaN where both medians are censored. The interval of
    this level, for at least five pairs, is a bootstrap over pairs.

    A resample with both medians censored may have any ratio. It counts as 0 for the low end and as
    inf for the high end.
    """
    a_S, b_S = np.asarray(a, np.float64), np.asarray(b, np.float64)
    value, low, high = _ratio(median(a), median(b)), math.nan, math.nan
    if not math.isnan(value) and len(a_S) >= MIN_SEEDS:
        draws_RxS = np.random.default_rng(seed).integers(0, len(a_S), (BOOTSTRAP_SAMPLES, len(a_S)))
        medians = zip(_medians(a_S[draws_RxS]), _medians(b_S[draws_RxS]), strict=True)
        ratio_R = np.asarray([_ratio(*pair) for pair in medians])
        undefined_R = np.isnan(ratio_R)
        lowest_first_R = np.sort(np.where(undefined_R, 0.0, ratio_R))
        highest_last_R = np.sort(np.where(undefined_R, math.inf, ratio_R))
        tail = (1 - level) / 2
        low = float(lowest_first_R[round(tail * BOOTSTRAP_SAMPLES)])
        high = float(highest_last_R[round((1 - tail) * BOOTSTRAP_SAMPLES) - 1])
    return Estimate(value, low, high, len(a_S), int((np.isinf(a_S) | np.isinf(b_S)).sum()))


def area_under_roc(
    scores: Sequence[float], outcomes: Sequence[bool], groups: Sequence[int], seed: int = 0
) -> Estimate:
    """How well a score tells true outcomes from false ones: the probability that a true case has
    the higher score, ties counting half.

    Args:
        scores: one a case.
        outcomes: one a case; the area is NaN if all are alike.
        groups: cases of one group (a teacher, say) are not independent: the bootstrap resamples
            whole groups, at least five of them.
        seed: of the resampling.
    """
    scores_N, outcomes_N = np.asarray(scores, np.float64), np.asarray(outcomes, bool)
    names, group_N = np.unique(np.asarray(groups), return_inverse=True)
    ahead_NxN = np.sign(scores_N[:, None] - scores_N[None, :]) / 2 + 0.5
    is_pair_NxN = outcomes_N[:, None] & ~outcomes_N[None, :]
    in_group_GxN = (group_N == np.arange(len(names))[:, None]).astype(np.float64)
    wins_GxG = in_group_GxN @ (is_pair_NxN * ahead_NxN) @ in_group_GxN.T
    pairs_GxG = in_group_GxN @ is_pair_NxN @ in_group_GxN.T
    value = float(_areas(np.ones((1, len(names))), wins_GxG, pairs_GxG)[0])
    if len(names) < MIN_SEEDS:
        return Estimate(value, math.nan, math.nan, len(names))
    draws_RxG = np.random.default_rng(seed).integers(0, len(names), (BOOTSTRAP_SAMPLES, len(names)))
    is_drawn_RxGxG = draws_RxG[:, :, None] == np.arange(len(names))
    times_RxG = np.sum(is_drawn_RxGxG, axis=1).astype(np.float64)
    area_R = _areas(times_RxG, wins_GxG, pairs_GxG)
    if np.isnan(area_R).all():
        return Estimate(value, math.nan, math.nan, len(names))
    low, high = np.nanquantile(area_R, [0.025, 0.975]).tolist()
    return Estimate(value, low, high, len(names))


def _areas(times_RxG: np.ndarray, wins_GxG: np.ndarray, pairs_GxG: np.ndarray) -> np.ndarray:
    """Areas under ROC `(R,)` of resamples, which count a pair of cases as often as they hold its
    groups; NaN without a pair.

    Args:
        times_RxG: how often each group was drawn.
        wins_GxG: pairs of a true case of one group and a false one of another with the true one
            ahead.
        pairs_GxG: all such pairs.
    """
    wins_R = np.einsum("rg,gh,rh->r", times_RxG, wins_GxG, times_RxG)
    pairs_R = np.einsum("rg,gh,rh->r", times_RxG, pairs_GxG, times_RxG)
    return np.divide(wins_R, pairs_R, out=np.full(len(pairs_R), math.nan), where=pairs_R > 0)


def compare_paired(a: Sequence[float], b: Sequence[float]) -> Paired:
    """Compare learning times of two strategies on the same seeds.

    A pair with one censored time still tells which is smaller. A pair with two tells nothing; it is
    left out.

    Raises:
        ValueError: the sequences differ in length.
    """
    if len(a) != len(b):
        raise ValueError(f"paired comparison of {len(a)} and {len(b)} seeds")
    ratios = [_ratio(x, y) for x, y in zip(a, b, strict=True)]
    defined = [ratio for ratio in ratios if not math.isnan(ratio)]
    wins = sum(y < x for x, y in zip(a, b, strict=True))
    losses = sum(y > x for x, y in zip(a, b, strict=True))
    p_value = min(1.0, 2 * float(scipy.special.bdtr(min(wins, losses), wins + losses, 0.5)))
    return Paired(median_over_seeds(defined), wins, losses, p_value, len(ratios) - len(defined))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """Mean of b - a over common seeds, with Student's 95% interval.

    Raises:
        ValueError: the sequences differ in length.
    """
    if len(a) != len(b):
        raise ValueError(f"paired comparison of {len(a)} and {len(b)} seeds")
    difference_S = np.asarray(b, np.float64) - np.asarray(a, np.float64)
    mean, count = float(difference_S.mean()), len(difference_S)
    if count < 2:
        return Estimate(mean, math.nan, math.nan, count)
    margin = float(
        scipy.special.stdtrit(count - 1, 0.975) * difference_S.std(ddof=1) / math.sqrt(count)
    )
    return Estimate(mean, mean - margin, mean + margin, count)


def paired_p_value(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p value of Student's paired test, that of `paired_difference`; 1 for fewer than two
    pairs and for pairs of equal values, which tell nothing.

    Raises:
        ValueError: the sequences differ in length.
    """
    estimate = paired_difference(a, b)
    if math.isnan(estimate.low) or estimate.value == estimate.low == 0:
        return 1.0
    difference_S = np.asarray(b, np.float64) - np.asarray(a, np.float64)
    count, deviation = len(difference_S), float(difference_S.std(ddof=1))
    if deviation == 0:
        return 0.0
    statistic = abs(estimate.value) / (deviation / math.sqrt(count))
    return min(1.0, 2 * float(scipy.special.stdtr(count - 1, -statistic)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for being as many as they are, in the order given: all comparisons whose
    adjusted value lies below alpha are true with probability 1 - alpha at least (Holm 1979)."""
    adjusted, largest = [1.0] * len(p_values), 0.0
    by_size = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, i in enumerate(by_size):
        largest = max(largest, (len(p_values) - rank) * p_values[i])
        adjusted[i] = min(1.0, largest)
    return adjusted


def fit_power_law(
    sizes_Z: Sequence[float], times_ZxS: Sequence[Sequence[float]], seed: int = 0
) -> PowerLaw:
    """Fit a power law to the median learning times at several sizes. Sizes whose median is censored
    are left out.

    The bootstrap resamples seeds, the same ones at every size. A size whose median is censored in a
    resample is left out of that resample.

    Args:
        sizes_Z: of the problem, at least one.
        times_ZxS: one row a size, one column a seed, inf where censored.
        seed: of the resampling.
    """
    times = np.asarray(times_ZxS, np.float64)
    (exponent,), (prefactor,), (num_sizes,) = _power_laws(sizes_Z, times[:, None])
    low, high = _interval(_resampled_exponents(sizes_Z, times, seed))
    return PowerLaw(
        Estimate(float(exponent), low, high, times.shape[1], int(np.isinf(times).sum())),
        float(prefactor),
        int(num_sizes),
    )


def exponent_difference(
    sizes_Z: Sequence[float],
    a_ZxS: Sequence[Sequence[float]],
    b_ZxS: Sequence[Sequence[float]],
    seed: int = 0,
) -> Estimate:
    """The exponent of b minus that of a, over paired seeds; arguments as in `fit_power_law`."""
    a, b = np.asarray(a_ZxS, np.float64), np.asarray(b_ZxS, np.float64)
    low, high = _interval(
        _resampled_exponents(sizes_Z, b, seed) - _resampled_exponents(sizes_Z, a, seed)
    )
    value = _power_laws(sizes_Z, b[:, None])[0] - _power_laws(sizes_Z, a[:, None])[0]
    return Estimate(float(value[0]), low, high, a.shape[1], int((np.isinf(a) | np.isinf(b)).sum()))


def _resampled_exponents(sizes_Z: Sequence[float], times_ZxS: np.ndarray, seed: int) -> np.ndarray:
    num_seeds = times_ZxS.shape[1]
    draws_RxS = np.random.default_rng(seed).integers(0, num_seeds, (BOOTSTRAP_SAMPLES, num_seeds))
    return _power_laws(sizes_Z, times_ZxS[:, draws_RxS])[0]


def _power_laws(
    sizes_Z: Sequence[float], times_ZxRxS: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exponent, prefactor and number of sizes of the fit to each of R resamples; NaN with fewer
    than three sizes."""
    medians_ZxR = _medians(times_ZxRxS)
    used_ZxR = np.isfinite(medians_ZxR)
    count_R = used_ZxR.sum(axis=0)
    weight_ZxR = used_ZxR / np.where(count_R >= 3, count_R, np.nan)
    x_Zx1 = np.log(np.asarray(sizes_Z, np.float64))[:, None]
    y_ZxR = np.log(np.where(used_ZxR, medians_ZxR, 1.0))
    mean_x_R, mean_y_R = (weight_ZxR * x_Zx1).sum(axis=0), (weight_ZxR * y_ZxR).sum(axis=0)
    from_mean_ZxR = x_Zx1 - mean_x_R
    covariance_R = (weight_ZxR * from_mean_ZxR * (y_ZxR - mean_y_R)).sum(axis=0)
    slope_R = covariance_R / (weight_ZxR * from_mean_ZxR**2).sum(axis=0)
    return slope_R, np.exp(mean_y_R - slope_R * mean_x_R), count_R


def _medians(values: np.ndarray) -> np.ndarray:
    """`median` over the last axis."""
    ordered = np.sort(values, axis=-1)
    num_values = values.shape[-1]
    # No value is -inf, so that inf plus any value is inf.
    return (ordered[..., (num_values - 1) // 2] + ordered[..., num_values // 2]) / 2


def median_interval(ordered_xS: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95% interval of the median (see `median_over_seeds`) of sorted values, five or
    more, over the last axis."""
    count = ordered_xS.shape[-1]
    # The median lies between the k-th smallest and the k-th largest value unless fewer than k
    # values lie on one side of it; each side is an even chance.
    ranks = range(1, count // 2 + 1)
    coverage_of = {k: 1 - 2 * float(scipy.special.bdtr(k - 1, count, 0.5)) for k in ranks}
    outer = max((k for k, coverage in coverage_of.items() if coverage >= 0.95), default=None)
    if outer is None:
        return ordered_xS[..., 0], ordered_xS[..., -1]
    excess = (coverage_of[outer] - 0.95) / (coverage_of[outer] - coverage_of[outer + 1])
    inward = (count - outer) * excess / (outer + (count - 2 * outer) * excess)
    low_outer, low_inner = ordered_xS[..., outer - 1], ordered_xS[..., outer]
    high_inner, high_outer = ordered_xS[..., -outer - 1], ordered_xS[..., -outer]
    # An end next to a censored value cannot be interpolated: the wider one is kept.
    reach = np.where(np.isinf(low_inner), low_outer, low_inner)
    low = (1 - inward) * low_outer + inward * reach
    high = (1 - inward) * high_outer + inward * high_inner
    # Rounding must not carry an end past the values that it lies between.
    return np.minimum(low, low_inner), np.maximum(high, high_inner)


def _interval(samples: np.ndarray) -> tuple[float, float]:
    """The interval that holds 95% of the samples, NaN left out."""
    if not np.isfinite(samples).any():
        return math.nan, math.nan
    low, high = np.nanquantile(samples, [0.025, 0.975])
    return float(low), float(high)


def _ratio(a: float, b: float) -> float:
    """b / a; NaN where both are censored."""
    if math.isinf(a) and math.isinf(b):
        return math.nan
    return b / a if math.isfinite(a) else 0.0


def quantiles_by_cluster(
    values: np.ndarray, clusters: np.ndarray, quantile: float, seed: int = 0, samples: int = 200
) -> tuple[float, float]:
    """The 95% interval of a quantile. The bootstrap draws whole clusters, because values of one
    cluster are not independent.

    Args:
        values: `(N,)`.
        clusters: `(N,)`, the cluster of each value.
        quantile: in [0, 1].
        seed: of the resampling.
        samples: number of resamples.
    """
    order = np.argsort(values)
    _, member_N = np.unique(clusters, return_inverse=True)
    num_clusters = member_N.max() + 1
    times_RxG = np.random.default_rng(seed).multinomial(
        num_clusters, np.full(num_clusters, 1 / num_clusters), samples
    )
    cumulative_RxN = np.cumsum(times_RxG[:, member_N[order]], axis=1)
    at_R = np.argmax(cumulative_RxN >= quantile * cumulative_RxN[:, -1:], axis=1)
    low, high = np.quantile(values[order][at_R], [0.025, 0.975])
    return float(low), float(high)


def crossed_difference(
    a_SxN: np.ndarray, b_SxN: np.ndarray, seed: int = 0, samples: int = 2000
) -> Estimate:
    """Mean of b - a over seeds and questions, which both are a sample of more: the 95% interval of
    a bootstrap that draws seeds, and apart from them questions (Owen 2007, "The pigeonhole
    bootstrap").

    What comes of the draw of seeds is widened to Student's interval: of eight seeds, the bootstrap
    alone covers 87%. Where seeds and questions differ little beside the noise, it covers more than
    95%.

    Args:
        a_SxN: what each of S seeds scored on each of N questions.
        b_SxN: the same of another arm, whose seeds are paired with those.
        seed: of the resampling.
        samples: number of resamples.

    Raises:
        ValueError: the shapes differ.
    """
    if a_SxN.shape != b_SxN.shape:
        raise ValueError(f"paired comparison of {a_SxN.shape} and {b_SxN.shape}")
    difference_SxN = np.asarray(b_SxN, np.float64) - np.asarray(a_SxN, np.float64)
    num_seeds, num_questions = difference_SxN.shape
    mean = float(difference_SxN.mean())
    if num_seeds < 2:
        return Estimate(mean, math.nan, math.nan, num_seeds)
    rng = np.random.default_rng(seed)
    times_RxS, times_RxN = (
        rng.multinomial(count, np.full(count, 1 / count), samples)
        for count in (num_seeds, num_questions)
    )
    total_R = np.einsum("rs,sn,rn->r", times_RxS, difference_SxN, times_RxN, optimize=True)
    mean_R = total_R / (num_seeds * num_questions)
    of_seeds_R = times_RxS @ difference_SxN.mean(axis=1) / num_seeds
    student = scipy.special.stdtrit(num_seeds - 1, 0.975) / scipy.special.ndtri(0.975)
    widened = student * math.sqrt(num_seeds / (num_seeds - 1))
    low, high = np.quantile(mean_R + (widened - 1) * (of_seeds_R - mean), [0.025, 0.975])
    return Estimate(mean, float(low), float(high), num_seeds)
