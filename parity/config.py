"""Configurations of the parity stages, and the problem they describe."""

import functools
from dataclasses import replace
from typing import Literal, TypeVar

import jax

from common.config import Seed, TrainingConfig, configuration
from common.engine import Engine, Lane, LossFn, Problem, ScanEngine
from common.losses import DistillationLoss, label_cross_entropy
from common.models import MLPConfig, Params, functional_mlp
from common.optim import OptimConfig, make_optimizer
from common.schedule import ScheduleConfig, ScheduleName
from common.transition import DetectorConfig
from parity.blocked import BlockedEngine
from parity.data import ParityData, eval_batch, level_correct, sample, supports_of

EngineName = Literal["auto", "scan", "blocked"]
MAX_BLOCKED_BATCH = 8
"""Where the gain was measured; larger batches are matrix products already and gain less."""


@configuration
class TrainConfig:
    """A model trained on the data's labels: the teacher."""

    data: ParityData
    model: MLPConfig
    optim: OptimConfig
    training: TrainingConfig
    engine: EngineName = "auto"
    """scan: step by step. blocked: the same steps in blocks (batches of at most 8), which only rounding tells apart. auto: blocked where possible."""

    def __post_init__(self) -> None:
        _check_engine(self.engine, self.training)


@configuration
class StudentConfig:
    """A model trained under a supervision schedule: the student."""

    data: ParityData
    model: MLPConfig
    optim: OptimConfig
    training: TrainingConfig
    supervision: ScheduleConfig = ScheduleConfig()
    loss: DistillationLoss = DistillationLoss()
    detector: DetectorConfig = DetectorConfig()
    schedule: ScheduleName = "progressive"
    """Which teacher checkpoint supervises which student step."""
    teacher_seed: Seed | None = None
    """The teacher lane that teaches every student; without it student and teacher are paired by equal seeds."""
    engine: EngineName = "auto"
    """scan: step by step. blocked: the same steps in blocks (batches of at most 8), which only rounding tells apart. auto: blocked where possible."""

    def __post_init__(self) -> None:
        _check_engine(self.engine, self.training)


ConfigT = TypeVar("ConfigT", TrainConfig, StudentConfig)
Compat = Literal["none", "authors"]
"""Whose deviations from the paper's text to follow: nobody's, or those of the authors' code where they change numbers."""


def as_published(config: ConfigT) -> ConfigT:
    """The same run with the deviations of the published code that change an MLP's numbers.

    The support is drawn with replacement (utils.py), accuracy is measured on 250 examples (boolean_expts.py), and reverse KL is weighted by raw
    logits (boolean_distill_expts.py). The remaining ones concern the Transformer, or a single update of millions.
    """
    data, training = replace(config.data, with_replacement=config.data.support is None), replace(config.training, eval_examples=250)
    if isinstance(config, TrainConfig):
        return replace(config, data=data, training=training)
    direction = "forward" if config.loss.direction == "forward" else "reverse-raw"
    return replace(config, data=data, training=training, loss=replace(config.loss, direction=direction))


def lanes(optim: OptimConfig, training: TrainingConfig) -> tuple[Lane, ...]:
    """Seeds x learning rates, in this order: neighbours share their data, and so their teacher's answers."""
    return tuple(Lane(seed, rate) for seed in training.seeds for rate in optim.learning_rate)


def teacher_problem(config: TrainConfig) -> Problem:
    """The pure functions of a run on labels."""
    return _problem(config, "teacher", None, lambda logits, labels, *_: label_cross_entropy(logits, labels))


def student_problem(config: StudentConfig, teacher: TrainConfig | None) -> Problem:
    """The pure functions of a student; without a teacher (schedule ce) labels supervise it."""
    if teacher is None:
        return _problem(config, "student", None, lambda logits, labels, *_: label_cross_entropy(logits, labels))
    total_steps = config.training.steps

    def loss(logits: jax.Array, labels: jax.Array, teacher_logits: jax.Array, step: jax.Array) -> jax.Array:
        return config.loss(logits, labels, teacher_logits, step, total_steps)

    return _problem(config, "student", teacher, loss)


def make_engine(config: TrainConfig | StudentConfig, problem: Problem, group_size: int = 1) -> Engine:
    """The engine that the configuration asks for."""
    blocked = config.engine == "blocked" or (config.engine == "auto" and config.training.batch_size <= MAX_BLOCKED_BATCH)
    return (BlockedEngine if blocked else ScanEngine)(problem, group_size)


def apply_model(config: TrainConfig | StudentConfig, params: Params, inputs_BxD: jax.Array) -> jax.Array:
    """Logits `(B, 2^depth)` of the configured model."""
    return functional_mlp(config.model, config.data.d, config.data.num_classes).apply(params, inputs_BxD)


def _check_engine(engine: EngineName, training: TrainingConfig) -> None:
    if engine == "blocked" and training.batch_size > MAX_BLOCKED_BATCH:
        raise ValueError(
            f"engine = blocked trains on batches of at most {MAX_BLOCKED_BATCH}, training.batch_size is {training.batch_size}; use --engine auto"
        )


def _problem(config: TrainConfig | StudentConfig, role: str, teacher: TrainConfig | None, loss: LossFn) -> Problem:
    supports = supports_of(config.data)
    return Problem(
        lanes=lanes(config.optim, config.training),
        role=role,
        model=functional_mlp(config.model, config.data.d, config.data.num_classes),
        sample=lambda key: sample(key, config.data, supports, config.training.batch_size),
        eval_batch=jax.jit(lambda: eval_batch(config.data, supports, config.training.eval_examples)),
        make_optimizer=functools.partial(make_optimizer, config.optim, config.training.steps),
        teacher_apply=None if teacher is None else functools.partial(apply_model, teacher),
        loss=loss,
        correct=functools.partial(level_correct, config.data),
    )
