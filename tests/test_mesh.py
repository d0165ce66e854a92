"""Lanes and batches over devices: wherever they are computed, the results are the same."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.base.config import TrainingConfig
from common.base.mesh import BATCH, LANE, training_mesh
from common.nn.gpt2 import GPT2Config
from common.nn.mlp import MLPConfig
from common.train import engine
from common.train.engine import Metrics, ScanEngine, TrainState
from common.train.optim import OptimConfig
from parity.blocked import BlockedEngine
from parity.config import ModelConfig, StudentConfig, TrainConfig
from parity.data import ParityData
from parity.spec import SPEC

DATA, STEPS = ParityData(8, 2), 6
GPT2 = GPT2Config(2, layers=1, dropout=0.2)


@given(num_lanes=st.integers(1, 9), batch_size=st.integers(1, 9), shares=st.booleans())
def test_lanes_come_first_and_devices_that_are_left_share_batches(
    num_lanes: int, batch_size: int, shares: bool
) -> None:
    mesh = training_mesh(num_lanes, batch_size, shares)
    assert jax.device_count() == 2
    over_lanes = 2 if num_lanes % 2 == 0 else 1
    over_batch = 2 if over_lanes == 1 and batch_size % 2 == 0 and shares else 1
    assert mesh.shape[LANE] == over_lanes
    assert mesh.shape.get(BATCH, 1) == over_batch


def training(num_seeds: int, eval_examples: int = 66) -> TrainingConfig:
    return TrainingConfig(
        STEPS, 6, eval_every=STEPS, eval_examples=eval_examples, num_seeds=num_seeds
    )


def trained(
    model: ModelConfig, num_seeds: int, num_rates: int, has_teacher: bool
) -> tuple[ScanEngine, TrainState, Metrics]:
    """A few steps and an evaluation, of a teacher or of a student of untrained ones."""
    rates = (0.01, 0.02)[:num_rates]
    config = TrainConfig(DATA, model, OptimConfig(rates), training(num_seeds))
    teacher = replace(config, model=MLPConfig(24), optim=OptimConfig((0.01,)))
    params = None
    if has_teacher:
        student = StudentConfig(**vars(config))
        problem = SPEC.student_problem(student, teacher)
        made = ScanEngine(problem, group_size=num_rates)
        init = ScanEngine(SPEC.teacher_problem(teacher)).init()
        params = made.place(jax.device_get(init.params))
    else:
        made = ScanEngine(SPEC.teacher_problem(config))
    state = made.advance(made.init(), params, STEPS)
    state, metrics = made.record(state)
    return made, state, metrics


@pytest.mark.parametrize(
    ("model", "num_seeds", "num_rates", "has_teacher", "is_shared"),
    [
        (MLPConfig(16), 1, 1, False, True),
        (MLPConfig(16), 4, 1, False, False),
        (MLPConfig(16), 3, 2, True, True),
        (GPT2, 1, 1, False, True),
    ],
)
def test_long_steps_are_the_same_steps(
    model: ModelConfig,
    num_seeds: int,
    num_rates: int,
    has_teacher: bool,
    is_shared: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one lane, of an odd number and of an even one, with dropout and with a teacher, whose
    students of several rates are groups."""
    expected = trained(model, num_seeds, num_rates, has_teacher)
    monkeypatch.setattr(engine, "LONG_STEP", 0.0)
    found = trained(model, num_seeds, num_rates, has_teacher)
    assert BATCH not in expected[0].mesh.axis_names
    assert (BATCH in found[0].mesh.axis_names) == is_shared
    assert found[0].num_devices == 2
    for one, other in zip(
        jax.tree.leaves(jax.device_get(found[1:])),
        jax.tree.leaves(jax.device_get(expected[1:])),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5)


def test_a_shared_batch_is_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each device multiplies its half of the six examples, and gradients are added up."""
    monkeypatch.setattr(engine, "LONG_STEP", 0.0)
    config = TrainConfig(DATA, MLPConfig(16), OptimConfig((0.01,)), training(1))
    made = ScanEngine(SPEC.teacher_problem(config))
    made.advance(made.init(), None, STEPS)
    program: Any = made.program("advance", pytest.fail)
    text = program.lower(made.data, made.lanes, made.init(), None, STEPS, None).compile().as_text()
    assert "all-reduce" in text
    assert "f32[3,16]" in text


def test_batches_of_blocks_are_never_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LONG_STEP", 0.0)
    config = TrainConfig(DATA, MLPConfig(16), OptimConfig((0.01,)), training(1))
    assert BATCH not in BlockedEngine(SPEC.teacher_problem(config)).mesh.axis_names
