"""Seeds to numbers: learning times with censoring, medians and bootstrap intervals, proportions, paired comparisons.

A run that has not learnt within its budget is censored: its learning time is `inf` here, is ranked after all others, and stays visible in every
summary. Nothing is averaged over the seeds that happened to succeed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

BOOTSTRAP_SAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval over seeds; infinite values mean "beyond the budget"."""

    value: float
    low: float
    high: float
    num_seeds: int
    num_censored: int = 0


@dataclass(frozen=True)
class Paired:
    """A paired comparison over common seeds: the median ratio b/a with its interval, and the two-sided sign test of "b differs from a"."""

    ratio: Estimate
    wins: int
    """Pairs in which b is smaller than a."""
    losses: int
    """Pairs in which b is larger; pairs with both values censored, or equal, are neither."""
    p_value: float


def learning_time(examples: Sequence[int], accuracy: Sequence[float | None], threshold: float = 0.9, sustained: int = 3) -> float:
    """Examples until accuracy first reaches `threshold` and stays there for `sustained` evaluations; inf if that never happens (t90).

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
    """The median, where inf is larger than every number; of an even count, inf if either middle value is."""
    ordered = np.sort(np.asarray(values, np.float64))
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(low if low == high else (low + high) / 2)  # inf + finite is inf; inf - inf never occurs


def bootstrap(values: Sequence[float] | np.ndarray, statistic: Callable[[Sequence[float]], float] = median, seed: int = 0) -> Estimate:
    """A statistic over seeds with its 95% percentile-bootstrap interval.

    Args:
        values: one value a seed, inf where censored.
        statistic: of a sequence of values.
        seed: of the resampling, so that a report is reproducible.
    """
    values = np.asarray(values, np.float64)
    if not values.size:
        return Estimate(math.nan, math.nan, math.nan, 0)
    rng = np.random.default_rng(seed)
    resampled = sorted(statistic(rng.choice(values, values.size).tolist()) for _ in range(BOOTSTRAP_SAMPLES))
    low, high = resampled[int(0.025 * BOOTSTRAP_SAMPLES)], resampled[int(0.975 * BOOTSTRAP_SAMPLES) - 1]
    return Estimate(statistic(values.tolist()), low, high, values.size, int(np.isinf(values).sum()))


def proportion(successes: int, total: int) -> Estimate:
    """A proportion with its exact (Clopper-Pearson) 95% interval."""
    interval = scipy.stats.binomtest(successes, total).proportion_ci(0.95, method="exact")
    return Estimate(successes / total, float(interval.low), float(interval.high), total)


def ratio_of_medians(a: Sequence[float], b: Sequence[float], seed: int = 0) -> Estimate:
    """median(b) / median(a) over paired seeds; the bootstrap resamples pairs."""
    a_S, b_S = np.asarray(a, np.float64), np.asarray(b, np.float64)
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, len(a_S), len(a_S)) for _ in range(BOOTSTRAP_SAMPLES)]
    resampled = sorted(_ratio(median(a_S[draw].tolist()), median(b_S[draw].tolist())) for draw in draws)
    low, high = resampled[int(0.025 * BOOTSTRAP_SAMPLES)], resampled[int(0.975 * BOOTSTRAP_SAMPLES) - 1]
    return Estimate(_ratio(median(a), median(b)), low, high, len(a_S), int((np.isinf(a_S) | np.isinf(b_S)).sum()))


def area_under_roc(scores: Sequence[float], outcomes: Sequence[bool], groups: Sequence[int], seed: int = 0) -> Estimate:
    """How well a score tells which outcomes are true: the chance that a true one scores above a false one, ties counting half.

    Args:
        scores: one a case.
        outcomes: one a case; the area is NaN if all are alike.
        groups: cases of one group (a teacher, say) are not independent: the bootstrap resamples whole groups.
        seed: of the resampling.
    """
    scores_N, outcomes_N, groups_N = np.asarray(scores, np.float64), np.asarray(outcomes, bool), np.asarray(groups)
    names = np.unique(groups_N)
    members = [np.flatnonzero(groups_N == name) for name in names]
    rng = np.random.default_rng(seed)
    draws = (np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))]) for _ in range(BOOTSTRAP_SAMPLES))
    areas = np.asarray([_area(scores_N[draw], outcomes_N[draw]) for draw in draws])
    value = _area(scores_N, outcomes_N)
    low, high = (math.nan, math.nan) if np.isnan(areas).all() else np.nanquantile(areas, [0.025, 0.975]).tolist()
    return Estimate(value, low, high, len(names))


def _area(scores_N: np.ndarray, outcomes_N: np.ndarray) -> float:
    above = scores_N[outcomes_N][:, None] - scores_N[~outcomes_N][None, :]
    return float(np.mean((above > 0) + 0.5 * (above == 0))) if above.size else math.nan


def compare_paired(a: Sequence[float], b: Sequence[float]) -> Paired:
    """Compare learning times of two strategies on the same seeds.

    A pair with one censored time still tells which is smaller; a pair with two tells nothing and counts for neither side (its ratio is 1).

    Raises:
        ValueError: the sequences differ in length.
    """
    if len(a) != len(b):
        raise ValueError(f"paired comparison of {len(a)} and {len(b)} seeds")
    ratios = [_ratio(x, y) for x, y in zip(a, b, strict=True)]
    wins = sum(y < x for x, y in zip(a, b, strict=True))
    losses = sum(y > x for x, y in zip(a, b, strict=True))
    p_value = float(scipy.stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    return Paired(bootstrap(ratios), wins, losses, p_value)


def _ratio(a: float, b: float) -> float:
    if math.isinf(a) and math.isinf(b):
        return 1.0
    return b / a if math.isfinite(a) else 0.0
