"""What is trained: a task, a model, an optimiser, and a teacher's answers where there is one.

All of it is pure functions of arrays. Data are an argument of the compiled programs, so that a
large corpus is no constant in them; what they close over is shapes and settings.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from common.base.config import Runtime, TrainingConfig
from common.base.mesh import OLDER_EMITTERS, compiler_options
from common.nn.functional import Batch, Functional, Inputs, Params
from common.nn.projections import projection_loss
from common.train.feed import Part, Stored
from common.train.lanes import Lane, lanes_of
from common.train.losses import DistillationLoss, TeacherLoss
from common.train.optim import OptimConfig, make_optimizer
from common.train.speed import Work

KEPT_PROBLEMS = 16
"""How many problems, with their programs, a process keeps in memory for runs that come."""

Generate = Callable[[Params, jax.Array, int], Batch]
"""(teacher's parameters, key, number of examples) to a training batch of the teacher's."""
Data = Any
"""A pytree of arrays: a corpus. Empty where examples are drawn from nothing but a key."""


class Task(ABC):
    """What is to be predicted, from which data. Tasks are hashable: equal ones share programs."""

    @property
    def selected_by(self) -> str:
        """What decides which positions are supervised, as on the command line; empty: all are."""
        return ""

    @property
    def on_cpu(self) -> Mapping[str, Any]:
        """Options of XLA's compiler on a CPU."""
        return {}

    def data(self) -> Data:
        """The arrays that `sample` and `evaluation` get."""
        return ()

    def stored(self) -> Stored | None:
        """Training examples that are kept by number and lie outside of `data`; None: there are no
        such examples."""
        return None

    def with_stored(self, data: Data, part: Part) -> Data:
        """The data that `sample` gets: with all stored examples, or with those of its step."""
        raise NotImplementedError

    @abstractmethod
    def sample(self, data: Data, key: jax.Array, num_examples: int) -> Batch:
        """Draw a training batch."""

    @abstractmethod
    def evaluation(self, data: Data, num_examples: int) -> Batch:
        """The fixed evaluation set, the same for all runs on these data."""

    @abstractmethod
    def model(self, config: Any) -> Functional:
        """A model of this task, from its configuration."""

    @abstractmethod
    def work(self, model: Any, teacher_model: Any | None) -> Work:
        """What an example costs in training, with models of these configurations."""

    def start(self, config: Any) -> Params | None:
        """Parameters that a model of this configuration begins with, some or all, as numpy arrays;
        None: all are random."""
        return None

    def generator(self, teacher_model: Any) -> Generate | None:
        """What lets a teacher of this configuration generate the examples that its students learn
        from, labels included; None: it answers for those of the data."""
        return None

    def correct(self, logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
        """Further yes-or-no judgements of every position, recorded beside the accuracy."""
        return {}

    def mean(self, losses: jax.Array, inputs: Inputs) -> jax.Array:
        """The mean of what was lost at each position of hidden layers, a scalar."""
        return jnp.mean(losses)


@dataclass(frozen=True)
class Teaching:
    """What a student learns from its teacher."""

    apply: Callable[[Params, Inputs], jax.Array]
    """The teacher's parameters and inputs to its logits."""
    loss: TeacherLoss
    hidden_loss: Callable[[Params, Params, Inputs, int, jax.Array], jax.Array]
    """(student's parameters, teacher's, inputs, layer, key) to the loss of a step in which a hidden
    layer learns from the teacher's."""
    generate: Generate | None = None
    """Where it is given, the student learns labels alone, those of the examples that the teacher
    generates."""


class ProblemSize(NamedTuple):
    """What compiled programs know of a budget; all else of it is decided between them."""

    steps: int
    batch_size: int
    eval_examples: int
    parts: int | None = None
    """In which a batch is computed; None: at once."""

    @classmethod
    def of(cls, training: TrainingConfig) -> "ProblemSize":
        """That of a run."""
        return cls(training.steps, training.batch_size, training.eval_examples, training.parts)


@dataclass(frozen=True)
class Problem:
    """What is trained, as pure functions of arrays."""

    lanes: tuple[Lane, ...]
    role: str
    """Names the random streams: lanes of equal seed and role share initial weights and data, which
    is what makes comparisons paired."""
    task: Task
    model: Functional
    size: ProblemSize
    make_optimizer: Callable[[jax.Array], optax.GradientTransformation]
    """Peak learning rate of a lane to its optimiser."""
    work: Work
    """What an example costs."""
    start: Params | None = None
    """Parameters that every lane begins with in place of random ones, some or all; None: none."""
    teaching: Teaching | None = None
    """None: the data's labels supervise."""
    device_bytes: int = Runtime().device_bytes
    """Room on a device for stored training examples."""
    programs: dict[Hashable, Callable[..., Any]] = field(default_factory=dict)
    """Its compiled functions, for all runs of this problem in a process: copies of a problem with
    other lanes share them."""

    @property
    def is_generated(self) -> bool:
        """Whether a teacher generates the training examples."""
        return self.teaching is not None and self.teaching.generate is not None

    @property
    def is_fed(self) -> bool:
        """Whether the host hands over the examples of the next steps, because the devices have no
        room for all."""
        stored = self.task.stored()
        return stored is not None and stored.nbytes > self.device_bytes

    def data(self) -> Data:
        """What devices hold of the data; where they are fed, with a single example, for its
        form."""
        data, stored = self.task.data(), self.task.stored()
        if stored is None:
            return data
        if self.is_fed:
            return self.task.with_stored(data, stored.part(np.zeros(1, np.int32)))
        return self.task.with_stored(data, stored.whole())

    def sample(self, data: Data, key: jax.Array, teacher_params: Params | None = None) -> Batch:
        """A training batch, of the data or of a teacher with these parameters."""
        if self.teaching is None or self.teaching.generate is None:
            return self.task.sample(data, key, self.size.batch_size)
        assert teacher_params is not None
        return self.teaching.generate(teacher_params, key, self.size.batch_size)

    def evaluation(self) -> Batch:
        """The fixed evaluation set."""
        if "evaluation" not in self.programs:
            self.programs["evaluation"] = jax.jit(
                self.task.evaluation,
                static_argnums=1,
                compiler_options=compiler_options(OLDER_EMITTERS),
            )
        return self.programs["evaluation"](self.task.data(), self.size.eval_examples)


class Trains(Protocol):
    """What every configuration of a run says about its training."""

    @property
    def model(self) -> Any:
        """The model."""
        ...

    @property
    def optim(self) -> OptimConfig:
        """The optimiser."""
        ...

    @property
    def training(self) -> TrainingConfig:
        """The budget."""
        ...


def teacher_problem(task: Task, config: Trains) -> Problem:
    """A run on the data's labels."""
    lanes = lanes_of(config.training.seeds, config.optim.learning_rate)
    problem = _without_lanes(task, "teacher", *_shared(config, None), None, None)
    return replace(problem, lanes=lanes, size=ProblemSize.of(config.training))


def student_problem(
    task: Task,
    config: Trains,
    loss: DistillationLoss | None,
    teacher_model: Any | None,
    *,
    shared_stream: bool = False,
) -> Problem:
    """A student's run.

    Args:
        task: what is learnt.
        config: of the student.
        loss: what is learnt from the teacher; None with labels.
        teacher_model: configuration of the teacher's model; None: labels supervise.
        shared_stream: all seeds see the same examples.
    """
    stream = config.training.seed if shared_stream else None
    lanes = lanes_of(config.training.seeds, config.optim.learning_rate, stream)
    problem = _without_lanes(task, "student", *_shared(config, loss), loss, teacher_model)
    return replace(problem, lanes=lanes, size=ProblemSize.of(config.training))


def _shared(config: Trains, loss: DistillationLoss | None) -> tuple[Any, OptimConfig, ProblemSize]:
    """What runs must agree in to share programs. A learning rate belongs to its lane; where neither
    it nor the loss changes on the way, runs of all lengths are trained by the same steps."""
    optim = replace(config.optim, learning_rate=(1.0,))
    size = ProblemSize.of(config.training)
    if optim.decay == "constant" and (loss is None or loss.is_constant):
        size = size._replace(steps=1)
    return config.model, optim, size


@functools.lru_cache(maxsize=KEPT_PROBLEMS)
def _without_lanes(
    task: Task,
    role: str,
    model: Any,
    optim: OptimConfig,
    size: ProblemSize,
    loss: DistillationLoss | None,
    teacher_model: Any | None,
) -> Problem:
    """A problem whose lanes are to be filled in; made once, so that runs that differ in nothing
    else share its compiled programs."""
    ours = task.model(model)
    teaching = None
    if loss is not None and teacher_model is not None:
        teaching = _teaching(task, ours, teacher_model, loss, size.steps)
    return Problem(
        lanes=(),
        role=role,
        task=task,
        model=ours,
        size=size,
        make_optimizer=functools.partial(make_optimizer, optim, size.steps),
        work=task.work(model, teacher_model),
        start=task.start(model),
        teaching=teaching,
    )


def _teaching(
    task: Task, ours: Functional, teacher_model: Any, loss: DistillationLoss, steps: int
) -> Teaching:
    theirs = task.model(teacher_model)

    def hidden_loss(
        params: Params, teacher_params: Params, inputs: Inputs, layer: int, key: jax.Array
    ) -> jax.Array:
        losses = projection_loss(ours, theirs, params, teacher_params, inputs, layer, key)
        return task.mean(losses, inputs)

    return Teaching(theirs.apply, loss.over(steps), hidden_loss, task.generator(teacher_model))
