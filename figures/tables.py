"""The small tables of a preset that are published under `results/`, made from its run directories."""

from pathlib import Path

import numpy as np
import pandas as pd

from figures import loaders
from figures.loaders import runs_of

CURVES = "curves.csv"
CORRELATIONS = "correlations.csv"
FIRST = "first_checkpoints.csv"
_NUM_POINTS = 100


def curves(home: Path) -> pd.DataFrame:
    """Every teacher and student at 100 evenly spaced evaluations (all, where there are fewer): run, seed, step, examples, accuracy, eval_loss.

    The many students of a sweep are left out: `first_checkpoints.csv` has what became of them.
    """
    return pd.concat([curve(home, run) for run in runs_of(home) if not run.startswith(("tune/", "first/"))])


def curve(home: Path, run: str) -> pd.DataFrame:
    """The rows of `curves` that are of one run."""
    table = loaders.metrics(home / run)
    evaluations = table.step.unique()
    kept = evaluations[np.unique(np.linspace(0, len(evaluations) - 1, _NUM_POINTS).round().astype(int))]
    columns = ["seed", "step", "examples", "accuracy", "eval_loss"]
    return table.loc[table.step.isin(kept), columns].assign(run=run)[["run", *columns]]


def probed(home: Path) -> list[Path]:
    """The teachers of a parity experiment whose correlations were measured."""
    teachers = (home / "teacher", *loaders.replicas(home))
    return [teacher for teacher in teachers if (teacher / "probes" / loaders.BY_STRATUM).exists()]


def correlations(teacher: Path) -> pd.DataFrame:
    """Mean |correlation| of a teacher's checkpoints with the monomials of the support, and with those wholly outside it, for every degree."""
    table = pd.read_csv(teacher / "probes" / loaders.BY_STRATUM)
    keys = ["seed", "examples", "degree"]
    inside = table[table.overlap == table.degree].set_index(keys)
    outside = table[table.overlap == 0].set_index(keys)
    columns = {"in_support": inside.mean_abs, "off_support": outside.mean_abs, "noise_floor": inside.noise_floor}
    return pd.DataFrame(columns).reset_index().assign(run=teacher.name)[["run", *keys, *columns]]
