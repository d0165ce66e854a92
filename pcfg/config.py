"""Configurations of the PCFG stages, and the problem they describe."""

import functools

import jax
import jax.numpy as jnp

from common.config import Seed, TrainingConfig, configuration, from_dict
from common.engine import LossFn, Problem
from common.errors import UserError
from common.lanes import Lane, lanes_of
from common.losses import DistillationLoss, label_cross_entropy
from common.masking import MaskingConfig
from common.models import Functional, Inputs, Params
from common.optim import OptimConfig, make_optimizer
from common.phases import PhaseConfig
from common.projections import projection_loss
from common.runs import RunDirectory
from common.schedule import ScheduleConfig, ScheduleName
from common.speed import Work, training_work, transformer_flops
from common.transformer import TransformerConfig, functional_transformer
from pcfg.data import PCFGData, eval_batch, identity, sample
from pcfg.sampler import Sampler, make_sampler
from pcfg.vocabulary import Vocabulary


@configuration
class TrainConfig:
    """A model trained on masked sentences: the teacher."""

    data: PCFGData
    model: TransformerConfig
    optim: OptimConfig
    training: TrainingConfig
    masking: MaskingConfig = MaskingConfig()

    def __post_init__(self) -> None:
        _check_model(self.model)


@configuration
class StudentConfig:
    """A model trained under a supervision schedule: the student."""

    data: PCFGData
    model: TransformerConfig
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
    """The teacher lane that teaches every student; without it student and teacher are paired by equal seeds."""
    shared_stream: bool = False
    """All seeds see the same sentences and masks, so that one teacher (--teacher-seed) answers once for all; they differ in their initial weights."""

    def __post_init__(self) -> None:
        _check_model(self.model)


def _check_model(model: TransformerConfig) -> None:
    if model.causal:
        raise ValueError("model.causal = True: a masked token is predicted from both sides; give --model.no-causal")


def bert(heads: int, *, layers: int = 4, dropout: float = 0.1, head_size: int = 8) -> TransformerConfig:
    """The published model (paper section 4): BERT with heads of size 8."""
    return TransformerConfig(heads, head_size, layers, causal=False, norm="post", gelu="exact", head="bert", dropout=dropout)


def config_of(run: RunDirectory) -> TrainConfig | StudentConfig:
    """The configuration of a run of either stage.

    Raises:
        UserError: its grammar is not the one that the run learnt: the file was edited or replaced, or the vocabulary is another.
    """
    config = from_dict(TrainConfig if run.record["stage"] == "train" else StudentConfig, run.record["config"], run.path / "config.json")
    if run.record["grammar"] != identity(config.data.load()):
        raise UserError(f"{run.path} was trained on other rules than grammar {config.data.grammar} has now; put the grammar back as it was")
    return config


def lanes(config: TrainConfig | StudentConfig) -> tuple[Lane, ...]:
    """Seeds x learning rates."""
    stream = config.training.seed if isinstance(config, StudentConfig) and config.shared_stream else None
    return lanes_of(config.training.seeds, config.optim.learning_rate, stream)


def functional_model(config: TrainConfig | StudentConfig, sampler: Sampler) -> Functional:
    """The configured model; `apply` takes `TokenInputs` to logits `(B, T, V)` over all token ids."""
    size = sampler.vocabulary.size
    return functional_transformer(config.model, size, sampler.longest + 2, size)


def work_of(config: TrainConfig | StudentConfig, teacher: TrainConfig | None = None) -> Work:
    """What a sentence costs in training."""
    grammar = config.data.load()
    vocabulary, length = Vocabulary(len(grammar.terminals)).size, grammar.length_bounds()[1] + 2
    of_teacher = 0.0 if teacher is None else transformer_flops(teacher.model, vocabulary, length)
    return training_work(transformer_flops(config.model, vocabulary, length), of_teacher, length)


def teacher_problem(config: TrainConfig) -> Problem:
    """The pure functions of a run on the sentences themselves."""
    return _problem(config, "teacher", None, lambda logits, labels, *_: label_cross_entropy(logits, labels))


def student_problem(config: StudentConfig, teacher: TrainConfig | None) -> Problem:
    """The pure functions of a student; without a teacher (schedule ce) the sentences supervise it."""
    if teacher is None:
        return _problem(config, "student", None, lambda logits, labels, *_: label_cross_entropy(logits, labels))
    return _problem(config, "student", teacher, config.loss.over(config.training.steps))


def _problem(config: TrainConfig | StudentConfig, role: str, teacher: TrainConfig | None, loss: LossFn) -> Problem:
    sampler = make_sampler(config.data.load())
    model = functional_model(config, sampler)
    teacher_model = None if teacher is None else functional_model(teacher, sampler)

    def teacher_apply(params: Params, inputs: Inputs) -> jax.Array:
        assert teacher_model is not None
        return teacher_model.apply(params, inputs)

    def hidden_loss(params: Params, teacher_params: Params, inputs: Inputs, layer: int, key: jax.Array) -> jax.Array:
        assert teacher_model is not None
        loss_BxT = projection_loss(model, teacher_model, params, teacher_params, inputs, layer, key)
        # The mean over all positions is to be the mean over those that are seen, and zero where none is.
        num_seen = jnp.sum(inputs.visible_BxL, dtype=jnp.float32)
        return loss_BxT * inputs.visible_BxL * (inputs.visible_BxL.size / jnp.maximum(num_seen, 1))

    return Problem(
        lanes=lanes(config),
        role=role,
        model=model,
        sample=lambda key: sample(key, sampler, config.masking, config.training.batch_size),
        eval_batch=jax.jit(lambda: eval_batch(config.data, sampler, config.masking, config.training.eval_examples)),
        make_optimizer=functools.partial(make_optimizer, config.optim, config.training.steps),
        teacher_apply=None if teacher_model is None else teacher_apply,
        loss=loss,
        work=work_of(config, teacher),
        selected_by=f"--masking.fraction {config.masking.fraction:g}",
        hidden_loss=None if teacher_model is None else hidden_loss,
    )
