"""Chunks are bounded in time, by numbers that no clock has a part in; those of the published runs
are as they were."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.base.config import TrainingConfig
from common.experiment.plan import plan_preset
from common.experiment.stages import RunStage
from common.nn.mlp import MLPConfig
from common.train.chunks import BLOCK, MAX_LAYER_STEPS, MAX_OPERATIONS, chunk_steps
from common.train.fit import Supervision
from common.train.optim import OptimConfig
from common.train.problem import Problem
from common.train.schedule import ce
from parity import law
from parity.config import TrainConfig
from parity.data import ParityData
from parity.spec import SPEC as PARITY
from pcfg.spec import SPEC as PCFG


@given(
    width=st.integers(1, 100_000),
    batch_size=st.integers(1, 512),
    eval_every=st.integers(1, 30_000_000),
    num_seeds=st.integers(1, 20),
)
def test_a_chunk_is_bounded_and_divides_evenly(
    width: int, batch_size: int, eval_every: int, num_seeds: int
) -> None:
    training = TrainingConfig(
        steps=10, batch_size=batch_size, eval_every=eval_every, num_seeds=num_seeds
    )
    config = TrainConfig(ParityData(100, 6), MLPConfig(width), OptimConfig((0.1,)), training)
    problem = PARITY.teacher_problem(config)
    steps = chunk_steps(problem, training, 1)
    most = max(
        1, min(MAX_LAYER_STEPS, MAX_OPERATIONS / (problem.work.flops * batch_size * num_seeds))
    )
    assert 1 <= steps <= max(math.ceil(most), BLOCK * math.ceil(most / BLOCK))
    if eval_every <= most:
        assert steps >= eval_every
    else:
        assert steps >= most / 2 - 1, "no shorter than they need be"
        assert steps <= BLOCK or steps % BLOCK == 0


def problem_of(stage: RunStage) -> tuple[Problem, TrainingConfig, int]:
    """What a stage trains, under the preset's teacher where it has one, and its group size."""
    config = stage.config
    if stage.stage == "train":
        problem = stage.spec.teacher_problem(config)
    elif config.schedule == "ce":
        problem = stage.spec.student_problem(config, None)
    else:
        assert stage.preset is not None
        teacher = stage.spec.presets[stage.preset].config.teacher
        problem = stage.spec.student_problem(config, teacher)
    supervision = Supervision((ce(config.training.steps),) * len(problem.lanes), None)
    return problem, config.training, supervision.group_size(problem.lanes)


@pytest.mark.parametrize(
    "name",
    [
        "quick",
        "laptop",
        "transformer-quick",
        "transformer-laptop",
        "pcfg-quick",
        "pcfg-laptop",
        "law-quick",
    ],
)
def test_published_runs_have_the_chunks_they_had(name: str) -> None:
    """From one evaluation to the next: looking up in between would not change their bits, but is
    not needed."""
    if name == "law-quick":
        config = law.LAW_PRESETS["quick"].config
        largest = tuple({point.k: point for point in config.points}.values())
        of_largest = replace(config, points=largest)
        stages = [stage for k in (3, 4) for stage in law.plan(of_largest, Path("runs"), k)]
    elif name.startswith("pcfg-"):
        stages = plan_preset(PCFG, name.removeprefix("pcfg-"), Path("runs"))
    else:
        stages = plan_preset(PARITY, name, Path("runs"))
    trained = [stage for stage in stages if isinstance(stage, RunStage)]
    assert trained
    for stage in trained:
        problem, training, group_size = problem_of(stage)
        assert chunk_steps(problem, training, group_size) >= training.eval_every, stage.name


def test_a_run_that_is_evaluated_at_its_end_alone_looks_up() -> None:
    """The quick grammar's teacher without evaluations in between: 1600 steps were some minutes."""
    teacher = PCFG.presets["quick"].config.teacher
    stage = RunStage(
        "teacher", PCFG, "quick", teacher, "train", {"training.eval_every": 1600}, Path("run")
    )
    problem, training, group_size = problem_of(stage)
    steps = chunk_steps(problem, training, group_size)
    operations = steps * training.batch_size * len(problem.lanes) * problem.work.flops
    assert operations < 1.5 * MAX_OPERATIONS
    assert steps < 200
