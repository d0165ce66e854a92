"""Configurations of the PCFG stages, and the problem they describe."""

import functools
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from common.base.config import Seed, TrainingConfig, configuration, from_dict
from common.base.errors import UserError
from common.judge.phases import PhaseConfig
from common.nn.bert import BERTConfig, bert_flops, functional_bert
from common.nn.functional import Functional, Inputs, Params
from common.nn.projections import projection_loss
from common.runs.directory import RunDirectory
from common.runs.tuning import TunedBy
from common.sequence.masking import MaskingConfig
from common.train.engine import KEPT_PROBLEMS, Problem, ProblemSize
from common.train.lanes import Lane, lanes_of
from common.train.losses import DistillationLoss, on_labels
from common.train.optim import OptimConfig, make_optimizer
from common.train.schedule import ScheduleConfig, ScheduleName
from common.train.speed import Work, training_work
from pcfg.data import PCFGData, eval_batch, identity, sample
from pcfg.sampler import Sampler, make_sampler

TUNED_BY: TunedBy = "accuracy"
"""What the best rate of a sweep is best at: the question is how far a budget reaches."""


@configuration
class TrainConfig:
    """A model trained on masked sentences: the teacher."""

    data: PCFGData
    model: BERTConfig
    optim: OptimConfig
    training: TrainingConfig
    masking: MaskingConfig = MaskingConfig()


@configuration
class StudentConfig:
    """A model trained under a supervision schedule: the student."""

    data: PCFGData
    model: BERTConfig
    optim: OptimConfig
    training: TrainingConfig
    masking: MaskingConfig = MaskingConfig()
    supervision: ScheduleConfig = ScheduleConfig()
    loss: DistillationLoss = DistillationLoss()
    """Hard labels by default: the published temperature is 1e-20."""
    detector: PhaseConfig = PhaseConfig()
    schedule: ScheduleName = "progressive"
    """Which teacher checkpoint supervises which student step."""
    teacher_seed: Seed | None = None
    """The teacher lane that teaches every student; without it student and teacher are paired by
    equal seeds."""
    shared_stream: bool = False
    """All seeds see the same sentences and masks, so that one teacher (--teacher-seed) answers once
    for all; they differ in their initial weights."""


def bert(heads: int, *, layers: int = 4, dropout: float = 0.1, head_size: int = 8) -> BERTConfig:
    """The published model (paper section 4): BERT with heads of size 8."""
    return BERTConfig(heads, head_size, layers, dropout=dropout)


def config_of(run: RunDirectory) -> TrainConfig | StudentConfig:
    """The configuration of a run of either stage.

    Raises:
        UserError: its grammar is not the one that the run learnt: the file was edited or replaced,
            or the vocabulary is another.
    """
    config = from_dict(
        TrainConfig if run.record["stage"] == "train" else StudentConfig,
        run.record["config"],
        run.path / "config.json",
    )
    if run.record["grammar"] != identity(config.data.load()):
        raise UserError(
            f"{run.path} was trained on other rules than grammar {config.data.grammar} has now; put"
            " the grammar back as it was"
        )
    return config


def lanes(config: TrainConfig | StudentConfig) -> tuple[Lane, ...]:
    """Seeds x learning rates."""
    stream = (
        config.training.seed if isinstance(config, StudentConfig) and config.shared_stream else None
    )
    return lanes_of(config.training.seeds, config.optim.learning_rate, stream)


def functional_model(config: TrainConfig | StudentConfig, sampler: Sampler) -> Functional:
    """The configured model; see `model_of`."""
    return model_of(config.model, sampler)


def model_of(model: BERTConfig, sampler: Sampler) -> Functional:
    """A model of a grammar's sentences; `apply` takes `TokenInputs` to logits `(B, T, V)` over all
    token ids."""
    size = sampler.vocabulary.size
    return functional_bert(model, size, sampler.longest + 2)


def work_of(sampler: Sampler, model: BERTConfig, teacher_model: BERTConfig | None = None) -> Work:
    """What a sentence costs in training."""
    vocabulary, length = sampler.vocabulary.size, sampler.longest + 2
    flops = functools.partial(bert_flops, vocabulary=vocabulary, length=length, num_asked=length)
    of_teacher = 0.0 if teacher_model is None else flops(teacher_model)
    return training_work(flops(model), of_teacher, length)


def teacher_problem(config: TrainConfig) -> Problem:
    """The pure functions of a run on the sentences themselves."""
    return _problem(config, "teacher", None, None)


def student_problem(config: StudentConfig, teacher: TrainConfig | None) -> Problem:
    """The pure functions of a student; without a teacher (schedule ce) the sentences supervise
    it."""
    if teacher is None:
        return _problem(config, "student", None, None)
    return _problem(config, "student", teacher.model, config.loss)


def _problem(
    config: TrainConfig | StudentConfig,
    role: str,
    teacher_model: BERTConfig | None,
    loss: DistillationLoss | None,
) -> Problem:
    optim = replace(config.optim, learning_rate=(1.0,))  # a rate belongs to its lane
    data = _Data(make_sampler(config.data.load()), config.masking, config.data)
    size = ProblemSize.of(config.training)
    return replace(
        _without_lanes(role, data, config.model, optim, size, teacher_model, loss),
        lanes=lanes(config),
    )


class _Data(NamedTuple):
    sampler: Sampler
    masking: MaskingConfig
    config: PCFGData


@functools.lru_cache(maxsize=KEPT_PROBLEMS)
def _without_lanes(
    role: str,
    data: _Data,
    model: BERTConfig,
    optim: OptimConfig,
    size: ProblemSize,
    teacher_model: BERTConfig | None,
    loss: DistillationLoss | None,
) -> Problem:
    """A problem whose lanes are to be filled in; made once, so that runs that differ in nothing
    else share its compiled programs."""
    ours = model_of(model, data.sampler)
    theirs = None if teacher_model is None else model_of(teacher_model, data.sampler)

    def hidden_loss(
        params: Params, teacher_params: Params, inputs: Inputs, layer: int, key: jax.Array
    ) -> jax.Array:
        assert theirs is not None
        loss_BxT = projection_loss(ours, theirs, params, teacher_params, inputs, layer, key)
        # The mean over all positions is to be the mean over those that are seen, and zero where
        # none is.
        num_seen = jnp.sum(inputs.visible_BxL, dtype=jnp.float32)
        return loss_BxT * inputs.visible_BxL * (inputs.visible_BxL.size / jnp.maximum(num_seen, 1))

    return Problem(
        lanes=(),
        role=role,
        model=ours,
        sample=lambda key: sample(key, data.sampler, data.masking, size.batch_size),
        eval_batch=jax.jit(
            lambda: eval_batch(data.config, data.sampler, data.masking, size.eval_examples)
        ),
        make_optimizer=functools.partial(make_optimizer, optim, size.steps),
        teacher_apply=None if theirs is None else theirs.apply,
        loss=on_labels if loss is None else loss.over(size.steps),
        work=work_of(data.sampler, model, teacher_model),
        selected_by=f"--masking.fraction {data.masking.fraction:g}",
        hidden_loss=None if theirs is None else hidden_loss,
    )
