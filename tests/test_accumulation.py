"""Batches computed in parts: the step of the whole, over all supervised positions."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from common.base.config import TrainingConfig, validate
from common.base.errors import UserError
from common.nn.bert import BERTConfig
from common.train import engine
from common.train.engine import ScanEngine, TrainState
from common.train.losses import DistillationLoss
from common.train.optim import OptimConfig
from pcfg.config import StudentConfig, TrainConfig
from pcfg.data import PCFGData
from pcfg.spec import SPEC

STEPS, BATCH = 4, 10
TEACHER = TrainConfig(
    PCFGData(start_level=4),
    BERTConfig(2, layers=1),
    OptimConfig((0.02,), kind="adam"),
    TrainingConfig(STEPS, BATCH, eval_every=STEPS, eval_examples=16, num_seeds=2),
)
STUDENT = StudentConfig(**vars(TEACHER), loss=DistillationLoss(labels="soft"))


def trained(parts: int | None, *, has_teacher: bool = False, dropout: float = 0.0) -> TrainState:
    model = replace(TEACHER.model, dropout=dropout)
    training = replace(TEACHER.training, parts=parts)
    if not has_teacher:
        config = replace(TEACHER, model=model, training=training)
        made = ScanEngine(SPEC.teacher_problem(config))
        return jax.device_get(made.advance(made.init(), None, STEPS))
    student = replace(STUDENT, model=model, training=training)
    made = ScanEngine(SPEC.student_problem(student, TEACHER))
    teacher = ScanEngine(SPEC.teacher_problem(TEACHER)).init().params
    return jax.device_get(made.advance(made.init(), made.place(teacher), STEPS))


@pytest.mark.parametrize(
    ("parts", "has_teacher", "is_shared"), [(5, False, False), (3, False, True), (2, True, False)]
)
def test_parts_make_the_step_of_the_whole(
    parts: int, has_teacher: bool, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of equal parts and of others (three of ten), on labels and under a teacher, on devices that
    share parts: the loss to 1e-5. Sentences differ in length, and rows in what is selected."""
    if is_shared:
        monkeypatch.setattr(engine, "LONG_STEP", 0.0)
    expected = trained(None, has_teacher=has_teacher)
    found = trained(parts, has_teacher=has_teacher)
    np.testing.assert_allclose(found.loss_sum, expected.loss_sum, rtol=1e-5)
    jax.tree.map(
        # Adam divides a gradient by its own size, so that where it is all rounding the update is,
        # too: of some steps of 0.02.
        lambda a, b: np.testing.assert_allclose(np.mean(np.abs(a - b)), 0, atol=1e-3),
        found.params,
        expected.params,
    )


def test_each_part_drops_its_own() -> None:
    whole, one, again = (trained(parts, dropout=0.5) for parts in (None, 2, 2))
    assert (whole.loss_sum != one.loss_sum).all()
    jax.tree.map(np.testing.assert_array_equal, one, again)


def test_one_part_is_refused() -> None:
    with pytest.raises(UserError, match="parts = 1: input should be greater than or equal to 2"):
        validate(replace(TEACHER.training, parts=1))
