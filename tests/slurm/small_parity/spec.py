"""Parity of two of eight coordinates: a teacher, a student of it, and one of labels. With the
variable SLOW set, a teacher waits for so many seconds between any two evaluations, so that it does
not end before Slurm has ended it, on whatever machine."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.base.config import Preset, TrainingConfig, configuration
from common.experiment.plan import Planner
from common.experiment.spec import ExperimentSpec, Judgement, Part
from common.judge.stats import median_over_seeds
from common.judge.verdict import Claim, Measurement, Verdict
from common.nn.functional import Params
from common.nn.mlp import MLPConfig
from common.runs.directory import finished_run
from common.train.engine import Engine, ScanEngine, TrainState
from common.train.optim import OptimConfig
from common.train.problem import Problem
from parity import task
from parity.config import StudentConfig, TrainConfig
from parity.data import ParityData


@configuration
class Experiment:
    """Teacher and student."""

    teacher: TrainConfig
    student: StudentConfig


class SlowEngine(ScanEngine):
    """Which waits."""

    def advance(
        self,
        state: TrainState,
        teacher_params: Params | None,
        num_steps: int,
        layer: int | None = None,
    ) -> TrainState:
        time.sleep(float(os.environ.get("SLOW", "0")))
        return super().advance(state, teacher_params, num_steps, layer)


def engine_of(config: Any) -> Callable[[Problem, int], Engine]:
    """Teachers are slow."""
    return ScanEngine if isinstance(config, StudentConfig) else SlowEngine


def plan(planner: Planner, experiment: Experiment) -> None:
    """A teacher; its student; a model of the student's size that learns from labels, as slowly as a
    teacher."""
    planner.train("teacher", {})
    planner.train("labels", {"model.width": experiment.student.model.width})
    planner.distill("student", {"schedule": "one-shot"}, teacher="teacher")


def judge(home: Path, experiment: Experiment) -> Judgement:
    """What each has come to."""
    accuracy = {
        name: median_over_seeds(finished_run(home / name).metrics()[-1]["accuracy"])
        for name in ("teacher", "labels", "student")
    }
    measured = tuple(Measurement(f"accuracy, {name}", found) for name, found in accuracy.items())
    return Judgement([Verdict("L", accuracy["teacher"].value >= 0.9, measured)], {})


BUDGET = TrainingConfig(steps=800, batch_size=16, eval_every=8, eval_examples=512, num_seeds=2)
TEACHER = TrainConfig(ParityData(8, 2), MLPConfig(64), OptimConfig((0.5,)), BUDGET)
STUDENT = StudentConfig(ParityData(8, 2), MLPConfig(8), OptimConfig((0.5,)), BUDGET)
NOTE = "Parity of 2 of 8 coordinates. python -m small_parity.experiment --preset quick."
SPEC = ExperimentSpec(
    name="small_parity",
    subject="sparse parity",
    presets={"quick": Preset("quick", NOTE, Experiment(TEACHER, STUDENT))},
    train_config=TrainConfig,
    student_config=StudentConfig,
    task=task.task_of,
    watch=task.watch_of,
    complete=task.with_chance,
    engine=engine_of,
    claims={"L": Claim("The teacher learns", "Median accuracy of at least 0.9.")},
    paper=Part("claims.json", plan, judge),
)
