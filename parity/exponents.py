"""Exponents of learning time in d, from a table of learning times; beside them what the theory
asks."""

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
    """The exponent of the paper's theory, up to logarithms; None where it says nothing."""
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
        sizes_Z = sorted(of_k.d.unique().tolist())
        times_ZxS = {strategy: times_of(of_k, strategy) for strategy in STRATEGIES}
        for strategy, values_ZxS in times_ZxS.items():
            law = fit_power_law(sizes_Z, values_ZxS)
            medians = [
                {"d": d} | plain(median_over_seeds(values_S))
                for d, values_S in zip(sizes_Z, values_ZxS, strict=True)
            ]
            chosen = of_k[of_k.strategy == strategy].groupby("d").first()
            divisors = chosen.budget / chosen.first_stage.astype("Float64")
            laws.append(
                {
                    "k": k,
                    "strategy": strategy,
                    "theory": theory(int(str(k)), strategy),
                    "exponent": plain(law.exponent),
                }
                | {
                    "prefactor": finite(law.prefactor),
                    "num_sizes": law.num_sizes,
                    "medians": medians,
                }
                | {
                    "rates_at_an_end": at_an_end(chosen.learning_rate, learning_rates),
                    "first_stages_at_an_end": at_an_end(divisors, first_stages),
                }
            )
        difference = exponent_difference(sizes_Z, times_ZxS["two-shot"], times_ZxS["ce"])
        low, high = difference.low, difference.high
        holds = None
        if not math.isnan(low):
            holds = low > 0 if int(str(k)) - 1 > 2 else low <= 0 <= high
        gain = ratio_of_medians(times_ZxS["two-shot"][-1], times_ZxS["ce"][-1])
        exponents = {"k": k, "holds": holds, "ce_minus_two_shot": plain(difference)}
        comparisons.append(exponents | {"largest_d": sizes_Z[-1], "ce_over_two_shot": plain(gain)})
    return {
        "criterion": CRITERION,
        "intervals": INTERVALS,
        "fits": laws,
        "comparisons": comparisons,
    }


def at_an_end(chosen: pd.Series, grid: Sequence[float]) -> list[int]:
    """At which sizes, the index of `chosen`, the smallest or the largest of a grid was chosen: the
    best may lie beyond."""
    return chosen.index[chosen.isin([min(grid), max(grid)])].tolist()


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
    """The number, or None: JSON has neither infinity nor NaN."""
    return value if math.isfinite(value) else None
