"""Chunks are bounded in time, by numbers that no clock has a part in; those of the published runs
are as they were."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.base.config import TrainingConfig, parse
from common.experiment.plan import StageCommand
from common.nn.mlp import MLPConfig
from common.train.chunks import BLOCK, MAX_LAYER_STEPS, MAX_OPERATIONS, chunk_steps
from common.train.command import TrainingCommand
from common.train.engine import Problem
from common.train.fit import Supervision
from common.train.optim import OptimConfig
from common.train.schedule import ce
from parity import config as parity_config
from parity import distill, experiment, law, train
from parity.data import ParityData
from parity.presets import PRESETS
from pcfg import config as pcfg_config
from pcfg import distill as pcfg_distill
from pcfg import experiment as pcfg_experiment
from pcfg import train as pcfg_train
from pcfg.presets import PRESETS as PCFG_PRESETS


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
    problem = parity_config.teacher_problem(
        parity_config.TrainConfig(
            ParityData(100, 6), MLPConfig(width), OptimConfig((0.1,)), training
        )
    )
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


def problem_of(stage: StageCommand) -> tuple[Problem, TrainingConfig, int]:
    """What a stage trains, under the preset's teacher where it has one, and its group size."""
    package, name = stage.module.split(".")
    module = {
        "parity.train": train,
        "parity.distill": distill,
        "pcfg.train": pcfg_train,
        "pcfg.distill": pcfg_distill,
    }[stage.module]
    config_module, presets = (
        (parity_config, PRESETS) if package == "parity" else (pcfg_config, PCFG_PRESETS)
    )
    preset = presets[stage.args[stage.args.index("--preset") + 1]].config
    command_class, default = (
        (module.TrainCommand, preset.teacher)
        if name == "train"
        else (module.DistillCommand, preset.student)
    )
    command: TrainingCommand = parse(
        command_class, stage.args, prog="", description="", default=command_class(default)
    )
    config = command.validated()
    if name == "train":
        problem = config_module.teacher_problem(config)
    else:
        problem = config_module.student_problem(
            config, None if config.schedule == "ce" else preset.teacher
        )
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
        largest = {point.k: point for point in config.points}.values()
        stages = [
            stage for point in largest for stage in law.plan_point(config, point, Path("runs"))
        ]
    elif name.startswith("pcfg-"):
        preset = name.removeprefix("pcfg-")
        stages = pcfg_experiment.plan(preset, PCFG_PRESETS[preset].config, Path("runs"))
    else:
        stages = experiment.plan(name, PRESETS[name].config, Path("runs"))
    trained = [
        stage for stage in stages if stage.trains and not stage.name.startswith("first/")
    ]  # which differ in nothing but their offset
    assert trained
    for stage in trained:
        problem, training, group_size = problem_of(stage)
        assert chunk_steps(problem, training, group_size) >= training.eval_every, stage.name


def test_a_run_that_is_evaluated_at_its_end_alone_looks_up() -> None:
    """The quick grammar's teacher without evaluations in between: 1600 steps were some minutes."""
    arguments = ("--preset", "quick", "--training.eval-every", "1600", "--run-dir", "run")
    problem, training, group_size = problem_of(
        StageCommand("teacher", "pcfg.train", arguments, Path("DONE"), ())
    )
    steps = chunk_steps(problem, training, group_size)
    operations = steps * training.batch_size * len(problem.lanes) * problem.work.flops
    assert operations < 1.5 * MAX_OPERATIONS
    assert steps < 200
