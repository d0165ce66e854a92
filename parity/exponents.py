"""Exponents of learning time in d, from a table of learning times, beside those of the theory."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from common.judge.stats import (
    INTERVALS,
    Estimate,
    exponent_difference,
    fit_power_law,
    median_over_seeds,
    ratio_of_medians,
)

STRATEGIES = ("teacher", "ce", "progressive", "two-shot")
CRITERION = (
    "k with d^(k-1) above d^2: the exponent of labels exceeds that of two-shot, the 95% interval of"
    " the difference above zero; k with the two equal: that interval contains zero."
)


def theory(k: int, strategy: str) -> int | None:
    """The exponent of the paper's theory, up to logarithms; None where it states none."""
    return {"ce": k - 1, "two-shot": 2}.get(strategy)


def fits(
    times: pd.DataFrame, learning_rates: Sequence[float], first_stages: Sequence[int]
) -> dict[str, Any]:
    """Power laws of every k and strategy, and labels against two-shot, as JSON values; None where a
    number does not exist.

    Args:
        times: columns k, d, strategy, seed, learning_rate, first_stage, budget and t90 (missing
            where censored).
        learning_rates: the grid of the sweeps.
        first_stages: two-shot's first stages to choose from, as divisors of its budget.
    """
    laws, comparisons = [], []
    for k, of_k in times.groupby("k"):
        degree = {"k": k}
        for strategy in STRATEGIES:
            law = _law(int(str(k)), of_k, strategy)
            chosen = of_k[of_k.strategy == strategy].groupby("d").first()
            divisors = chosen.budget / chosen.first_stage.astype("Float64")
            ends = {
                "rates_at_an_end": at_an_end(chosen.learning_rate, learning_rates),
                "first_stages_at_an_end": at_an_end(divisors, first_stages),
            }
            laws.append(degree | law | ends)
        comparisons.append(degree | _comparison(int(str(k)), of_k))
    return {
        "criterion": CRITERION,
        "intervals": INTERVALS,
        "fits": laws,
        "comparisons": comparisons,
    }


def _law(k: int, of_k: pd.DataFrame, strategy: str) -> dict[str, Any]:
    """The power law of one strategy and the medians that it is fitted to."""
    sizes_Z, times_ZxS = sizes_of(of_k), times_of(of_k, strategy)
    law = fit_power_law(sizes_Z, times_ZxS)
    medians = [
        {"d": d} | plain(median_over_seeds(times_S))
        for d, times_S in zip(sizes_Z, times_ZxS, strict=True)
    ]
    return {
        "strategy": strategy,
        "theory": theory(k, strategy),
        "exponent": plain(law.exponent),
        "prefactor": finite(law.prefactor),
        "num_sizes": law.num_sizes,
        "medians": medians,
    }


def _comparison(k: int, of_k: pd.DataFrame) -> dict[str, Any]:
    """Labels against two-shot: the difference of exponents, judged by `CRITERION`, and the ratio of
    times at the largest d."""
    sizes_Z = sizes_of(of_k)
    ce_ZxS, two_shot_ZxS = times_of(of_k, "ce"), times_of(of_k, "two-shot")
    difference = exponent_difference(sizes_Z, two_shot_ZxS, ce_ZxS)
    low, high = difference.low, difference.high
    holds = None
    if not math.isnan(low):
        holds = low > 0 if k - 1 > 2 else low <= 0 <= high
    gain = ratio_of_medians(two_shot_ZxS[-1], ce_ZxS[-1])
    return {
        "holds": holds,
        "ce_minus_two_shot": plain(difference),
        "largest_d": sizes_Z[-1],
        "ce_over_two_shot": plain(gain),
    }


def at_an_end(chosen: pd.Series, grid: Sequence[float]) -> list[int]:
    """The sizes at which the smallest or the largest value of a grid was chosen: the best may lie
    beyond it.

    Args:
        chosen: the value chosen at each size, which is the index.
        grid: the values to choose from.
    """
    return chosen.index[chosen.isin([min(grid), max(grid)])].tolist()


def sizes_of(of_k: pd.DataFrame) -> list[int]:
    """The dimensions d, increasing."""
    return sorted(of_k.d.unique().tolist())


def times_of(of_k: pd.DataFrame, strategy: str) -> list[list[float]]:
    """Learning times `(Z, S)` of one strategy, inf where censored."""
    table = of_k[of_k.strategy == strategy].assign(
        t90=lambda rows: rows.t90.astype("Float64").fillna(math.inf)
    )
    return table.pivot(index="d", columns="seed", values="t90").to_numpy(float).tolist()


def plain(estimate: Estimate) -> dict[str, Any]:
    """JSON values of an estimate."""
    return {name: finite(value) for name, value in asdict(estimate).items()}


def finite(value: float) -> float | None:
    """The number, or None in place of infinity and NaN, which JSON lacks."""
    return value if math.isfinite(value) else None
