"""What models reach that see less of a row of text than the teacher, read from run files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from common.base.config import Overrides
from common.runs.directory import RunDirectory, finished_run
from common.sequence.students import TEACHER
from mlm.presets import Experiment, ReferenceConfig

REFERENCES = "references.csv"
BAG = "reference/bag"
"""The run of the bag of words."""
LAST_PART = 0.25
"""Of a reference's steps, in which its loss must have fallen by less than `FLAT`."""
FLAT = 0.005
"""Nats."""


def window_run(n: int) -> str:
    """The run of a window of n tokens."""
    return f"reference/window-{n}"


def reference(config: ReferenceConfig) -> Overrides:
    """How references differ from the teacher besides in what they see."""
    return {
        "training.seed": config.seed,
        "training.num_seeds": 1,
        "training.steps": config.steps,
        "training.eval_every": config.eval_every,
        "training.checkpoint_every": 0,
    }


def runs_of(experiment: Experiment) -> dict[str, int | None]:
    """The n of every reference by its run; that of the bag of words is None."""
    return {BAG: None} | {window_run(n): n for n in experiment.references.windows}


def reference_table(home: Path, experiment: Experiment) -> pd.DataFrame:
    """What every reference came to.

    Columns: run, n (of a window), loss (on validation documents, nats), fell (by how much in the
    last quarter of its steps), is_flat (less than 0.005: more steps would change it little).
    """
    rows = []
    for run, n in runs_of(experiment).items():
        steps, loss_E = loss_curve(finished_run(home / run), lane=0)
        before = np.flatnonzero(steps <= (1 - LAST_PART) * steps[-1])[-1]
        fell = float(loss_E[before] - loss_E[-1])
        rows.append({"run": run, "n": n, "loss": loss_E[-1], "fell": fell, "is_flat": fell < FLAT})
    return pd.DataFrame(rows).astype({"n": "Int64"})


def loss_curve(run: RunDirectory, lane: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps and losses on validation documents of one lane, `(E,)` each."""
    records = run.metrics()
    steps = np.asarray([record["step"] for record in records])
    return steps, np.asarray([record["eval_loss"][lane] for record in records], np.float64)


def passing_table(home: Path, references: pd.DataFrame) -> pd.DataFrame:
    """Where every teacher's loss passes that of every reference.

    Columns: run, n, seed, step (the first from which on the loss stays below; none if it never
    does).
    """
    teacher = finished_run(home / TEACHER)
    rows = []
    for reached in references.to_dict("records"):
        for lane, seed in enumerate(teacher.manifest["seeds"]):
            steps, loss_E = loss_curve(teacher, lane)
            step = below_for_good(steps.tolist(), loss_E.tolist(), reached["loss"])
            rows.append({"run": reached["run"], "n": reached["n"], "seed": seed, "step": step})
    return pd.DataFrame(rows).astype({"n": "Int64", "step": "Int64"})


def below_for_good(steps: Sequence[int], losses: Sequence[float], level: float) -> int | None:
    """The first step from which on a loss stays below a level; None if it ends above."""
    above = np.flatnonzero(np.asarray(losses) >= level)
    first = 0 if len(above) == 0 else int(above[-1]) + 1
    return steps[first] if first < len(steps) else None
