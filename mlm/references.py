"""What models reach that see less of a row of text than the teacher, read from run files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from common.base.config import Overrides
from common.judge.flatness import recent_fall
from common.runs.directory import RunDirectory, finished_run
from common.sequence.students import TEACHER
from mlm.presets import Experiment, ReferenceConfig
from mlm.unigram import unigram_loss

REFERENCES, PASSED = "references.csv", "passed.csv"
UNIGRAM, BAG, WINDOW = "unigram", "bag", "window"
"""The kinds of references."""
BAG_RUN = "reference/bag"
FLAT = 0.005
"""Nats. A reference ends once its loss falls by less from one quarter of its steps to the next."""


def window_run(n: int) -> str:
    """The run of a window of n tokens."""
    return f"reference/window-{n}"


def overrides_of(config: ReferenceConfig) -> Overrides:
    """How references differ from the teacher besides in what they see."""
    return {
        "training.seed": config.seed,
        "training.num_seeds": 1,
        "training.steps": config.steps,
        "training.stop_when_flat": FLAT,
        "training.eval_every": config.eval_every,
        "training.checkpoint_every": 0,
        "training.parts": config.parts,
        "model.positions": None,
    }


def reference_table(home: Path, experiment: Experiment) -> pd.DataFrame:
    """What every reference came to, and the loss of the frequencies of words.

    Columns: reference (unigram, bag, window), n (of a window), loss (on validation documents,
    nats), steps (of its training), fell (by how much in the last quarter of them, see
    `recent_fall`), is_flat (by less than 0.005, so that more steps would change little; frequencies
    are not trained).
    """
    rows: list[dict[str, Any]] = [
        {"reference": UNIGRAM, "n": None, "loss": unigram_loss(home / TEACHER)}
        | {"steps": 0, "fell": 0.0, "is_flat": True},
    ]
    if experiment.references is not None:
        rows.append({"reference": BAG, "n": None, **_end_of(home / BAG_RUN)})
        for n in experiment.references.windows:
            rows.append({"reference": WINDOW, "n": n, **_end_of(home / window_run(n))})
    return pd.DataFrame(rows).astype({"n": "Int64"})


def passed_table(home: Path, references: pd.DataFrame) -> pd.DataFrame:
    """Where every teacher's loss passes that of every reference.

    Columns: reference, n, seed, step (the first from which on the loss stays below; none if it
    never does).

    Args:
        home: the folder of an experiment's runs.
        references: their table.
    """
    teacher = finished_run(home / TEACHER)
    rows = []
    for reached in references.to_dict("records"):
        for lane, seed in enumerate(teacher.manifest["seeds"]):
            steps, loss_E = loss_curve(teacher, lane)
            step = below_for_good(steps.tolist(), loss_E.tolist(), reached["loss"])
            which = {"reference": reached["reference"], "n": reached["n"]}
            rows.append(which | {"seed": seed, "step": step})
    return pd.DataFrame(rows).astype({"n": "Int64", "step": "Int64"})


def loss_curve(run: RunDirectory, lane: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps and losses on validation documents of one lane, `(E,)` each."""
    records = run.metrics()
    steps_E = np.asarray([record["step"] for record in records])
    return steps_E, np.asarray([record["eval_loss"][lane] for record in records], np.float64)


def below_for_good(steps: Sequence[int], losses: Sequence[float], level: float) -> int | None:
    """The first step from which on a loss stays below a level; None if it ends above."""
    above = np.flatnonzero(np.asarray(losses) >= level)
    first = 0 if len(above) == 0 else int(above[-1]) + 1
    return steps[first] if first < len(steps) else None


def _end_of(run: Path) -> dict[str, Any]:
    """The last columns of a trained reference."""
    steps_E, loss_E = loss_curve(finished_run(run), lane=0)
    fell = float(recent_fall(steps_E.tolist(), loss_E.tolist()))
    last = {"loss": float(loss_E[-1]), "steps": int(steps_E[-1])}
    return last | {"fell": fell, "is_flat": fell < FLAT}
