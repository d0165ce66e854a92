"""Choosing a learning rate from a sweep, on seeds that are used for nothing else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from common.base.config import PositiveFloat, PositiveInt, Seed, configuration
from common.judge.stats import learning_time, median
from common.runs.directory import RunDirectory, finished_run

TunedBy = Literal["time", "accuracy"]
SWEEP_STOP_AFTER = 2.0
"""`stop_after` of a sweep that is asked for learning times; its choice is that of the whole budget.
A rate whose median is yet to come, of an even number of seeds the mean of the two middle times,
cannot win any more: the later one alone is more than twice the best median."""


@configuration
class SweepConfig:
    """Learning-rate sweeps on seeds of their own; every strategy and size gets the same grid."""

    learning_rate: Annotated[tuple[PositiveFloat, ...], Field(min_length=4)]
    seed: Seed
    num_seeds: PositiveInt


@dataclass(frozen=True)
class RateResult:
    """How one learning rate of a sweep did over its seeds."""

    rate: float
    median_time: float
    """Median examples to 90% accuracy; inf where at least half the seeds were censored."""
    num_learnt: int
    mean_accuracy: float
    """At the end of the run; a diverged seed counts as zero, whatever its broken model answers."""


def learning_times(run: RunDirectory) -> list[float]:
    """t90 in examples of every lane, inf where censored."""
    records = run.metrics()
    examples = [record["examples"] for record in records]
    return [
        learning_time(examples, [record["accuracy"][lane] for record in records])
        for lane in range(len(run.manifest["seeds"]))
    ]


def rate_results(run: RunDirectory) -> list[RateResult]:
    """One entry for each learning rate of a run."""
    rates, times, last = run.manifest["learning_rates"], learning_times(run), run.metrics()[-1]
    final = [
        0.0 if diverged_at else accuracy
        for accuracy, diverged_at in zip(last["accuracy"], last["diverged_at"], strict=True)
    ]
    results = []
    for rate in dict.fromkeys(rates):
        of_rate = [lane for lane, other in enumerate(rates) if other == rate]
        accuracy = float(np.mean([final[lane] for lane in of_rate]))
        results.append(
            RateResult(
                rate,
                median([times[lane] for lane in of_rate]),
                int(sum(np.isfinite(times[lane]) for lane in of_rate)),
                accuracy,
            )
        )
    return results


def best_rate(results: Sequence[RateResult], criterion: TunedBy = "time") -> float:
    """The rate with the smallest median learning time; where none has one, the most seeds that
    learnt, then the best final accuracy.

    By the criterion `accuracy`, the latter alone: where the question is how far a budget reaches.
    """
    return min(
        results, key=preference if criterion == "time" else lambda result: -result.mean_accuracy
    ).rate


def preference(result: RateResult) -> tuple[float, int, float]:
    """Sorts results, the best first."""
    return result.median_time, -result.num_learnt, -result.mean_accuracy


def tuned_rate(path: Path, criterion: TunedBy = "time") -> float:
    """The best learning rate of a finished sweep.

    Raises:
        UserError: the sweep is missing or unfinished.
    """
    return best_rate(rate_results(finished_run(path, "sweep")), criterion)


def tuning_table(paths: Sequence[Path]) -> pd.DataFrame:
    """The sweeps of an experiment.

    Columns: run, learning_rate, median_t90 in examples (empty where censored), num_learnt (seeds
        that did), num_seeds, mean_final_accuracy.

    Raises:
        UserError: a sweep is unfinished.
    """
    rows = []
    for path in paths:
        run = finished_run(path, "sweep")
        num_seeds = len(set(run.manifest["seeds"]))
        for result in rate_results(run):
            time = None if math.isinf(result.median_time) else int(result.median_time)
            counts = {
                "num_learnt": result.num_learnt,
                "num_seeds": num_seeds,
                "mean_final_accuracy": round(result.mean_accuracy, 4),
            }
            rows.append(
                {"run": path.name, "learning_rate": result.rate, "median_t90": time} | counts
            )
    columns = [
        "run",
        "learning_rate",
        "median_t90",
        "num_learnt",
        "num_seeds",
        "mean_final_accuracy",
    ]
    return pd.DataFrame(rows, columns=columns).astype({"median_t90": "Int64"})
