"""`python -m mlm.relay.probe RUN`: what every seed of a run answers to every sentence that is not
trained on, at the end of its training, as a CSV file inside the run directory.

Claims are judged from these answers, by a bootstrap over seeds and sentences: accuracies alone tell
nothing of the sentences.
"""

import functools
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from common.base.config import NonNegativeInt, configuration
from common.base.errors import UserError
from common.base.parts import in_parts
from common.base.reading import read_table
from common.experiment.commands import probe_command
from common.experiment.spec import Probe
from common.nn.functional import Functional, Params
from common.runs.directory import RunDirectory
from common.runs.files import write_text
from common.runs.probing import FOLDER, opened_probe, probed_run
from common.runs.trajectory import Trajectory
from mlm.relay.config import NAME as EXPERIMENT
from mlm.relay.config import config_of
from mlm.relay.data import Rows, batch_of
from mlm.relay.task import task_of

NAME = "answers"
TABLE = f"{NAME}.csv"
_TOGETHER = 64
"""Sentences that are answered at one time."""


@configuration
class AnswersConfig:
    """Settings of the probe of answers."""

    step: NonNegativeInt | None = None
    """Of the checkpoint; None: the last."""


def probe_run(path: Path, config: AnswersConfig) -> None:
    """Write `probes/answers.csv` of a finished run: for each sentence its split, its number there,
    its label, and the class that each seed answers (a column `seed_S`).

    Raises:
        UserError: the run is missing, unfinished, in use, of another experiment, or was probed with
            other settings; has no such checkpoint; or its sentences are others now.
    """
    run = probed_run(path, EXPERIMENT)
    seeds = run.manifest["seeds"]
    if len(set(seeds)) != len(seeds):
        raise UserError(f"{path} is a sweep over learning rates; probe a run of one rate")
    trained = config_of(run)
    task = task_of(trained)
    if task.sentences.hash != run.record["sentences"]:
        raise UserError(f"the sentences of {path} are others now than it learnt; put them back")
    trajectory = Trajectory(run)
    step = trajectory.steps()[-1] if config.step is None else config.step
    if step not in trajectory.steps():
        raise UserError(f"--step {step}: {path} has no such checkpoint")
    with opened_probe(run, NAME, asdict(config)) as opened:
        if opened is None:
            return
        params = trajectory.restore(step)
        answer = jax.jit(functools.partial(answers, task.model(trained.model)))
        sentences = task.sentences
        splits = {
            "validation": sentences.validation,
            "evaluation": sentences.evaluation,
            "test": sentences.test,
        }
        tables = []
        for name, rows in splits.items():
            if rows is not None:
                tables.append(table_of(name, rows, np.asarray(answer(params, rows)), run))
        write_text(opened.folder / TABLE, pd.concat(tables).to_csv(index=False))
        num_parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        opened.summary.update(
            accuracy=accuracies(pd.concat(tables)),
            parameters=num_parameters // len(seeds),
        )


def answers(model: Functional, params_L: Params, rows: Rows) -> jax.Array:
    """The class that each lane answers to each sentence, `(L, N)`."""

    def of_lane(params: Params) -> jax.Array:
        def of_part(number_B: jax.Array) -> jax.Array:
            return jnp.argmax(model.apply(params, batch_of(rows, number_B).inputs), axis=-1)

        count = len(rows.label_N)
        parts_KxB = in_parts(jnp.arange(count), min(_TOGETHER, count))
        return jax.lax.map(of_part, parts_KxB).reshape(-1)[:count]

    return jax.lax.map(of_lane, params_L)


def table_of(split: str, rows: Rows, answer_LxN: np.ndarray, run: RunDirectory) -> pd.DataFrame:
    """The rows of one split."""
    columns = {"split": split, "sentence": np.arange(len(rows.label_N)), "label": rows.label_N}
    of_seeds = zip(run.manifest["seeds"], answer_LxN, strict=True)
    return pd.DataFrame(columns | {f"seed_{seed}": answer_N for seed, answer_N in of_seeds})


def accuracies(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The share of right answers of each seed, by split."""
    return {
        str(split): {name: float(right.mean()) for name, right in right_answers(part).items()}
        for split, part in table.groupby("split", sort=False)
    }


def right_answers(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Whether each seed answers each sentence rightly, by the seed's column."""
    return {
        name: np.asarray(table[name] == table["label"])
        for name in table.columns
        if name.startswith("seed_")
    }


def answers_of(run: Path) -> pd.DataFrame:
    """The table of a probed run."""
    columns = ("split", "sentence", "label")
    return read_table(run / FOLDER / TABLE, columns, f"python -m {PROBE.module}")


PROBE = Probe(
    f"{EXPERIMENT}.probe",
    NAME,
    "Write down what every seed of a run answers to every sentence that is not trained on.",
    AnswersConfig(),
    probe_run,
)

main = probe_command(PROBE, __name__)
