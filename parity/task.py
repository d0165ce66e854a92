"""Sparse parity as a task: its data, its models, and what of both a run needs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax

from common.base.errors import UserError
from common.base.mesh import OLDER_EMITTERS
from common.judge.transition import DetectorConfig, Watch
from common.nn.functional import Batch, Functional, Params
from common.nn.gpt2 import gpt2_flops
from common.nn.mlp import MLPConfig, mlp_flops
from common.runs.directory import RunDirectory
from common.train.engine import ScanEngine
from common.train.problem import Data, Task
from common.train.speed import Work, training_work
from parity.blocked import BlockedEngine
from parity.config import ModelConfig, StudentConfig, TrainConfig, why_not_blocked
from parity.data import ParityData, Supports, eval_batch, level_correct, sample, supports_of
from parity.model import model_of

MIN_WIDTH_ALONE = 10_000
"""From this width on a GPU is busy with one lane; measured at 100 and at 50,000 (benchmarks)."""


@dataclass(frozen=True)
class ParityTask(Task):
    """Sparse parity; examples are drawn from keys, so that there are no data to pass on."""

    problem: ParityData
    supports: Supports

    @property
    def on_cpu(self) -> Mapping[str, Any]:
        """These models compile in half the time."""
        return OLDER_EMITTERS

    def sample(self, data: Data, key: jax.Array, num_examples: int) -> Batch:
        """Uniform inputs and their labels."""
        return sample(key, self.problem, self.supports, num_examples)

    def evaluation(self, data: Data, num_examples: int) -> Batch:
        """From a stream that training never uses."""
        return eval_batch(self.problem, self.supports, num_examples)

    def model(self, config: ModelConfig) -> Functional:
        """See `model_of`."""
        return model_of(self.problem, config)

    def work(self, model: ModelConfig, teacher_model: ModelConfig | None) -> Work:
        """Of products alone; a Transformer answers at one position."""
        tokens = 1 if isinstance(model, MLPConfig) else self.problem.d
        of_teacher = 0.0 if teacher_model is None else _forward_flops(self.problem, teacher_model)
        return training_work(_forward_flops(self.problem, model), of_teacher, tokens)

    def correct(self, logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
        """Of every level of a tree of labels."""
        return level_correct(self.problem, logits, labels)


def task_of(config: TrainConfig) -> ParityTask:
    """What a run learns."""
    return ParityTask(config.data, supports_of(config.data))


def watch_of(config: TrainConfig) -> Watch:
    """Accuracy from chance to one; a student's thresholds are its own."""
    if isinstance(config, StudentConfig):
        return Watch(detector=config.detector)
    return Watch(detector=DetectorConfig(floor=1 / config.data.num_classes))


def with_chance(config: StudentConfig) -> StudentConfig:
    """The configuration with chance as the detector's floor, unless another floor is given; the
    default, 0.5, is that of two labels."""
    if config.detector.floor != DetectorConfig.floor:
        return config
    return replace(config, detector=replace(config.detector, floor=1 / config.data.num_classes))


def check_teacher(student: StudentConfig, teacher: TrainConfig, run: RunDirectory) -> None:
    """Raise a UserError unless a teacher has learnt the parity that its student is to learn."""
    for name in ("d", "k", "depth"):
        mine, theirs = getattr(student.data, name), getattr(teacher.data, name)
        if mine != theirs:
            raise UserError(
                f"the teacher {run.path} was trained with data.{name} = {theirs}, the student asks"
                f" for data.{name} = {mine}; give --data.{name} {theirs}"
            )
    if supports_of(student.data) != supports_of(teacher.data):
        raise UserError(
            f"the teacher {run.path} learnt the parity of {supports_of(teacher.data)}, the student"
            f" asks for {supports_of(student.data)}; give both the same --data.support or"
            " --data.seed"
        )


def engine_of(config: TrainConfig) -> type[ScanEngine]:
    """The engine that a configuration asks for."""
    is_blocked = config.engine == "auto" and not why_not_blocked(config) and not _is_stacked(config)
    return BlockedEngine if is_blocked or config.engine == "blocked" else ScanEngine


def _is_stacked(config: TrainConfig) -> bool:
    """Whether lanes are narrow enough for a GPU to train them together in less time than one after
    another, as blocks are trained."""
    if jax.default_backend() == "cpu" or not isinstance(config.model, MLPConfig):
        return False
    num_lanes = config.training.num_seeds * len(config.optim.learning_rate)
    return num_lanes > 1 and config.model.width < MIN_WIDTH_ALONE


def functional_model(config: TrainConfig) -> Functional:
    """The configured model; see `model_of`."""
    return model_of(config.data, config.model)


def apply_model(config: TrainConfig, params: Params, inputs_BxI: jax.Array) -> jax.Array:
    """Logits `(B, 2^depth)` of the configured model."""
    return functional_model(config).apply(params, inputs_BxI)


def _forward_flops(data: ParityData, model: ModelConfig) -> float:
    """Operations of the products in one forward pass of one example."""
    if isinstance(model, MLPConfig):
        return mlp_flops(model, data.d, data.num_classes)
    return gpt2_flops(model, data.num_classes, data.d, num_asked=1)
