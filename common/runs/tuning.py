"""Chooses a learning rate from a sweep, on seeds that are used for nothing else."""

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
"""`stop_after` of a sweep for learning times, which chooses the same rate as the whole budget. A
rate whose median is not known when it stops cannot win. With an even number of seeds that median is
the mean of two middle times, and the later of them is more than twice the best median."""


@configuration
class SweepConfig:
    """Learning-rate sweeps on seeds of their own, with one grid for all strategies and sizes."""

    learning_rate: Annotated[tuple[PositiveFloat, ...], Field(min_length=4)]
    seed: Seed
    num_seeds: PositiveInt


@dataclass(frozen=True)
class RateResult:
    """The results of one learning rate of a sweep over its seeds."""

    rate: float
    median_time: float
    """Median examples to 90% accuracy; inf where at least half the seeds were censored."""
    num_learnt: int
    mean_accuracy: float
    """Mean over seeds at the end of the run; a diverged seed counts as zero."""


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
        own_times = [times[lane] for lane in of_rate]
        num_learnt = int(np.isfinite(own_times).sum())
        accuracy = float(np.mean([final[lane] for lane in of_rate]))
        results.append(RateResult(rate, median(own_times), num_learnt, accuracy))
    return results


def best_rate(results: Sequence[RateResult], criterion: TunedBy = "time") -> float:
    """The best rate of a sweep.

    Args:
        results: of all rates.
        criterion: time: the smallest median learning time, then the most seeds that learnt, then
            the best final accuracy. accuracy: the best final accuracy alone, where the question is
            how far a budget reaches.
    """
    if criterion == "time":
        return min(results, key=preference).rate
    return max(results, key=lambda result: result.mean_accuracy).rate


def preference(result: RateResult) -> tuple[float, int, float]:
    """Key that sorts results, the best first."""
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
            accuracy = round(result.mean_accuracy, 4)
            rows.append((path.name, result.rate, time, result.num_learnt, num_seeds, accuracy))
    columns = [
        "run",
        "learning_rate",
        "median_t90",
        "num_learnt",
        "num_seeds",
        "mean_final_accuracy",
    ]
    return pd.DataFrame(rows, columns=columns).astype({"median_t90": "Int64"})
