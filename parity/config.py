"""Configurations of the parity stages, and the problem they describe."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal, TypeVar

import jax
import tyro
from pydantic import Discriminator, Tag

from common.base.config import Seed, TrainingConfig, configuration, last_value
from common.base.errors import UserError
from common.judge.transition import DetectorConfig
from common.nn.functional import Functional, Params
from common.nn.gpt2 import GPT2Config, gpt2_flops
from common.nn.mlp import MLPConfig, mlp_flops
from common.nn.projections import projection_loss
from common.train.engine import KEPT_PROBLEMS, Engine, Problem, ProblemSize, ScanEngine
from common.train.lanes import Lane, lanes_of
from common.train.losses import DistillationLoss, on_labels
from common.train.optim import OptimConfig, make_optimizer
from common.train.schedule import ScheduleConfig, ScheduleName
from common.train.speed import Work, training_work
from parity.blocked import BlockedEngine
from parity.data import ParityData, eval_batch, level_correct, sample, supports_of
from parity.model import model_of

EngineName = Literal["auto", "scan", "blocked"]
MAX_BLOCKED_BATCH = 8
"""Where the gain was measured; larger batches are matrix products already and gain less."""


def _model_tag(value: object) -> str:
    is_transformer = (
        "heads" in value if isinstance(value, Mapping) else isinstance(value, GPT2Config)
    )
    return "(transformer)" if is_transformer else "(mlp)"


ModelConfig = tyro.conf.AvoidSubcommands[
    Annotated[
        Annotated[MLPConfig, Tag("(mlp)")] | Annotated[GPT2Config, Tag("(transformer)")],
        Discriminator(_model_tag),
    ]
]
"""A configuration says which of them it is by its fields; on the command line by --model."""
ModelName = Literal["mlp", "transformer"]


@configuration
class TrainConfig:
    """A model trained on the data's labels: the teacher."""

    data: ParityData
    model: ModelConfig
    optim: OptimConfig
    training: TrainingConfig
    engine: EngineName = "auto"
    """scan: step by step. blocked: the same steps in blocks (MLP, SGD, batches of at most 8); only
    rounding differs. auto: where possible."""

    def __post_init__(self) -> None:
        _check_engine(self)


@configuration
class StudentConfig:
    """A model trained under a supervision schedule: the student."""

    data: ParityData
    model: ModelConfig
    optim: OptimConfig
    training: TrainingConfig
    supervision: ScheduleConfig = ScheduleConfig()
    loss: DistillationLoss = DistillationLoss()
    detector: DetectorConfig = DetectorConfig()
    schedule: ScheduleName = "progressive"
    """Which teacher checkpoint supervises which student step."""
    teacher_seed: Seed | None = None
    """The teacher lane that teaches every student; without it student and teacher are paired by
    equal seeds."""
    shared_stream: bool = False
    """All seeds see the same examples, so that one teacher (--teacher-seed) answers once for all;
    they differ in their initial weights only."""
    engine: EngineName = "auto"
    """scan: step by step. blocked: the same steps in blocks (MLP, SGD, batches of at most 8); only
    rounding differs. auto: where possible."""

    def __post_init__(self) -> None:
        _check_engine(self)


ConfigT = TypeVar("ConfigT", TrainConfig, StudentConfig)
ModelDefaults = Mapping[str, tuple[ModelConfig, OptimConfig]]
"""Of each ModelName, in the same order as in the configurations."""
TEACHER_DEFAULTS: ModelDefaults = {
    "mlp": (MLPConfig(50_000), OptimConfig((0.005,))),
    "transformer": (
        GPT2Config(heads=32, dropout=0.1),
        OptimConfig((3e-4,), schedule="cosine", kind="adam"),
    ),
}
STUDENT_DEFAULTS: ModelDefaults = {
    "mlp": (MLPConfig(100), OptimConfig((0.01,), schedule="cosine")),
    "transformer": (
        GPT2Config(heads=4, dropout=0.1),
        OptimConfig((1e-4,), schedule="cosine", kind="adam"),
    ),
}
"""Published models with their published optimisers (paper section 3); warm-up counts updates,
`--compat authors` examples."""
OLDER_EMITTERS = {"xla_cpu_use_fusion_emitters": False}
"""Of loops: these models compile in half the time, and are as fast. (BERT is not: there they are
the slower ones.)"""
Compat = Literal["none", "authors"]
"""Whose deviations from the paper's text to follow: nobody's, or those of the authors' code where
they change numbers."""


def as_published(config: ConfigT) -> ConfigT:
    """The same run with the deviations of the published code that change its numbers.

    The support (unless it is a tree's) is drawn with replacement (utils.py), accuracy is measured
    on 250 examples (boolean_expts.py), reverse KL is weighted by raw logits
    (boolean_distill_expts.py), and a cosine schedule is as long as there are examples (see
    `counted_in_examples`). The rest concerns a single update of millions (a warm-up whose first
    update has a rate of zero), or the dropout that stayed on in a Transformer's evaluation and in
    its teacher's answers, which no flag brings back.
    """
    drawn = (
        config.data.support is None and config.data.depth == 1
    )  # the published trees' supports are disjoint, as ours are
    data, training = (
        replace(config.data, with_replacement=drawn),
        replace(config.training, eval_examples=250),
    )
    config = replace(
        config,
        data=data,
        training=training,
        optim=counted_in_examples(config.optim, training.batch_size),
    )
    if isinstance(config, TrainConfig):
        return config
    direction = "forward" if config.loss.direction == "forward" else "reverse-raw"
    return replace(config, loss=replace(config.loss, direction=direction))


def counted_in_examples(optim: OptimConfig, batch_size: int) -> OptimConfig:
    """The optimiser where a cosine schedule is as long as the run has examples, although only
    updates advance it (boolean_expts.py, n_steps).

    With the published batches of 32 the run ends before the warm-up does: the rate rises in a line,
    to 0.52 of its peak if the warm-up is 6%.

    Raises:
        UserError: the run ends within the cosine.
    """
    if optim.schedule == "constant" or batch_size == 1:
        return optim
    warmup_of_updates = optim.warmup_fraction * batch_size
    if warmup_of_updates < 1:
        raise UserError(
            f"--compat authors: the published schedule, {batch_size} times as long as the run,"
            " would end within its cosine; it is followed only where training.batch_size x"
            " optim.warmup_fraction >= 1, or with --optim.schedule constant"
        )
    return replace(
        optim,
        learning_rate=tuple(rate / warmup_of_updates for rate in optim.learning_rate),
        warmup_fraction=1.0,
    )


def with_model(config: ConfigT, args: Sequence[str], defaults: ModelDefaults) -> ConfigT:
    """The preset's configuration, or with `--model NAME` of another kind than the preset's that
    model and its optimiser in their place."""
    name = last_value(args, "--model")
    if name is None or name not in defaults or isinstance(config.model, type(defaults[name][0])):
        return config
    model, optim = defaults[name]
    return replace(config, model=model, optim=optim)


def with_chance(config: StudentConfig) -> StudentConfig:
    """The configuration with chance as the detector's floor, unless another floor is given; the
    default, 0.5, is that of two labels."""
    if config.detector.floor != DetectorConfig.floor:
        return config
    return replace(config, detector=replace(config.detector, floor=1 / config.data.num_classes))


def lanes(config: TrainConfig | StudentConfig) -> tuple[Lane, ...]:
    """Seeds x learning rates."""
    stream = (
        config.training.seed if isinstance(config, StudentConfig) and config.shared_stream else None
    )
    return lanes_of(config.training.seeds, config.optim.learning_rate, stream)


def teacher_problem(config: TrainConfig) -> Problem:
    """The pure functions of a run on labels."""
    return _problem(config, "teacher", None, None)


def student_problem(config: StudentConfig, teacher: TrainConfig | None) -> Problem:
    """The pure functions of a student; without a teacher (schedule ce) labels supervise it."""
    if teacher is None:
        return _problem(config, "student", None, None)
    return _problem(config, "student", teacher.model, config.loss)


def make_engine(
    config: TrainConfig | StudentConfig, problem: Problem, group_size: int = 1
) -> Engine:
    """The engine that the configuration asks for."""
    blocked = config.engine == "blocked" or (
        config.engine == "auto" and not _why_not_blocked(config)
    )
    return (BlockedEngine if blocked else ScanEngine)(problem, group_size)


def functional_model(config: TrainConfig | StudentConfig) -> Functional:
    """The configured model; see `parity.model`."""
    return model_of(config.data, config.model)


def work_of(data: ParityData, model: ModelConfig, teacher_model: ModelConfig | None = None) -> Work:
    """What an example costs in training."""
    tokens = 1 if isinstance(model, MLPConfig) else data.d
    of_teacher = 0.0 if teacher_model is None else _forward_flops(data, teacher_model)
    return training_work(_forward_flops(data, model), of_teacher, tokens)


def _forward_flops(data: ParityData, model: ModelConfig) -> float:
    """Operations of the products in one forward pass of one example."""
    if isinstance(model, MLPConfig):
        return mlp_flops(model, data.d, data.num_classes)
    return gpt2_flops(model, data.num_classes, data.d, num_asked=1)


def apply_model(
    config: TrainConfig | StudentConfig, params: Params, inputs_BxD: jax.Array
) -> jax.Array:
    """Logits `(B, 2^depth)` of the configured model."""
    return functional_model(config).apply(params, inputs_BxD)


def _check_engine(config: TrainConfig | StudentConfig) -> None:
    if config.engine == "blocked" and (reason := _why_not_blocked(config)):
        raise ValueError(f"engine = blocked trains {reason}; use --engine auto")


def _why_not_blocked(config: TrainConfig | StudentConfig) -> str:
    """What the blocked engine asks for and the configuration does not have; empty if nothing."""
    if not isinstance(config.model, MLPConfig):
        return "an MLP, model is a Transformer"
    if config.optim.kind != "sgd":
        return f"by SGD, optim.kind is {config.optim.kind}"
    if config.optim.clip_norm is not None:
        return "without clipping, optim.clip_norm is given"
    batch_size = config.training.batch_size
    return (
        f"on batches of at most {MAX_BLOCKED_BATCH}, training.batch_size is {batch_size}"
        if batch_size > MAX_BLOCKED_BATCH
        else ""
    )


def _problem(
    config: TrainConfig | StudentConfig,
    role: str,
    teacher_model: ModelConfig | None,
    loss: DistillationLoss | None,
) -> Problem:
    optim = replace(config.optim, learning_rate=(1.0,))  # a rate belongs to its lane
    size = ProblemSize.of(config.training)
    return replace(
        _without_lanes(role, config.data, config.model, optim, size, teacher_model, loss),
        lanes=lanes(config),
    )


@functools.lru_cache(maxsize=KEPT_PROBLEMS)
def _without_lanes(
    role: str,
    data: ParityData,
    model: ModelConfig,
    optim: OptimConfig,
    size: ProblemSize,
    teacher_model: ModelConfig | None,
    loss: DistillationLoss | None,
) -> Problem:
    """A problem whose lanes are to be filled in; made once, so that runs that differ in nothing
    else share its compiled programs."""
    supports = supports_of(data)
    ours = model_of(data, model)
    theirs = None if teacher_model is None else model_of(data, teacher_model)
    return Problem(
        lanes=(),
        role=role,
        model=ours,
        sample=lambda key: sample(key, data, supports, size.batch_size),
        eval_batch=jax.jit(lambda: eval_batch(data, supports, size.eval_examples)),
        make_optimizer=functools.partial(make_optimizer, optim, size.steps),
        teacher_apply=None if theirs is None else theirs.apply,
        loss=on_labels if loss is None else loss.over(size.steps),
        work=work_of(data, model, teacher_model),
        hidden_loss=None if theirs is None else functools.partial(projection_loss, ours, theirs),
        correct=functools.partial(level_correct, data),
        on_cpu=OLDER_EMITTERS,
    )
