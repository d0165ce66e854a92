"""The small tables of a preset that are published under `results/`, made from its run
directories."""

from pathlib import Path

import numpy as np
import pandas as pd

from common.judge.transition import DetectorConfig, Transition, detect_on_metric
from common.runs.directory import RunDirectory
from figures import loaders

CURVES = "curves.csv"
CORRELATIONS = "correlations.csv"
FIRST = "first_checkpoints.csv"
LEVELS = "levels.csv"
_NUM_POINTS = 100


def curves(home: Path) -> pd.DataFrame:
    """Every teacher and student at 100 evenly spaced evaluations (all, where there are fewer): run,
    seed, step, examples, accuracy, eval_loss.

    The many students of a sweep are left out; `first_checkpoints.csv` has their results.
    """
    swept = ("tune/", "choose/", "first/")
    shown = [run for run in loaders.runs_of(home) if not run.startswith(swept)]
    return pd.concat([curve(home, run) for run in shown])


def curve(home: Path, run: str) -> pd.DataFrame:
    """The rows of `curves` for one run."""
    table = loaders.metrics(home / run)
    evaluations = table.step.unique()
    kept = evaluations[
        np.unique(np.linspace(0, len(evaluations) - 1, _NUM_POINTS).round().astype(int))
    ]
    columns = ["seed", "step", "examples", "accuracy", "eval_loss"]
    return table.loc[table.step.isin(kept), columns].assign(run=run)[["run", *columns]]


def probed(home: Path) -> list[Path]:
    """The teachers of a parity experiment whose correlations were measured."""
    teachers = (home / "teacher", *loaders.replicas(home))
    return [teacher for teacher in teachers if (teacher / "probes" / loaders.BY_STRATUM).exists()]


def correlations(teacher: Path) -> pd.DataFrame:
    """Mean |correlation| of a teacher's checkpoints with the monomials of the support, and with
    those wholly outside it, for every degree."""
    table = loaders.strata_of(teacher)
    keys = ["seed", "examples", "degree"]
    inside = table[table.overlap == table.degree].set_index(keys)
    outside = table[table.overlap == 0].set_index(keys)
    columns = {
        "in_support": inside.mean_abs,
        "off_support": outside.mean_abs,
        "noise_floor": inside.noise_floor,
    }
    return pd.DataFrame(columns).reset_index().assign(run=teacher.name)[["run", *keys, *columns]]


def levels(home: Path) -> pd.DataFrame:
    """The transition of every level and seed of hierarchical parity, in examples: level, seed,
    start, middle, end; empty where there is none."""
    depth = loaders.config_of(home / "tree")["data"]["depth"]
    seeds = RunDirectory(home / "tree").manifest["seeds"]
    rows = []
    for level in range(1, depth + 1):
        examples, values_SxE = level_curves(home, level, depth)
        for seed, values_E in zip(seeds, values_SxE, strict=True):
            found = detect_on_metric(
                examples.tolist(), values_E.tolist(), DetectorConfig(floor=0.5**level)
            )
            row = {"level": level, "seed": seed}
            if isinstance(found, Transition):
                row |= {"start": found.start, "middle": found.middle, "end": found.end}
            rows.append(row)
    table = pd.DataFrame(rows, columns=["level", "seed", "start", "middle", "end"])
    return table.astype({"start": "Int64", "middle": "Int64", "end": "Int64"})


def level_curves(home: Path, level: int, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples `(E,)` and accuracy `(S, E)` of the most probable node at one level; at the last it
    is the label."""
    return loaders.curves(
        home / "tree", "accuracy" if level == depth else f"accuracy_level_{level}"
    )


def label(folder: Path, intervals: str) -> str:
    """What stands below a published table: the commits that made it, and what its intervals are."""
    commits = loaders.json_of(folder / "provenance.json", "commits")["commits"]
    short = [commit.replace(commit[7:40], "") for commit in commits]  # "+changes" stays
    return f"Commit {', '.join(short)}. {intervals}\n"
