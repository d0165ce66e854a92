"""The compiled part of training: a whole chunk of steps (sampling, teacher forward, loss, update,
metrics) in one program.

An engine advances all lanes of a run by n updates. A lane is one (seed, learning rate); lanes are a
vmapped axis L, sharded over devices. Consecutive lanes that see the same data under the same
teacher form a group G: both are computed once for the whole group.
"""

import functools
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from common.base.config import TrainingConfig
from common.base.keys import purpose_key
from common.base.mesh import LANE, compiler_options, lane_mesh
from common.base.parts import in_parts, part_size
from common.nn.functional import Batch, Functional, Inputs, Params
from common.train.lanes import Lane, LaneArrays
from common.train.losses import label_cross_entropy, masked_mean
from common.train.speed import Work

EVAL_PART = 64
"""Examples evaluated at one time: their activations are to stay in a core's cache."""

KEPT_PROBLEMS = 16
"""How many problems, with their compiled programs, an experiment keeps in memory for runs that
come."""

Metrics = dict[str, jax.Array]
Count = int | jax.Array
"""A number of steps, known when a program is compiled or given to it."""
LossFn = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""(student logits, labels, teacher logits, step) to loss per position. Without a teacher the third
is the student's own logits, to be ignored."""
HiddenLossFn = Callable[[Params, Params, Inputs, int, jax.Array], jax.Array]
"""(student's parameters, teacher's parameters, inputs, layer, key) to loss per position, for steps
in which a hidden layer learns."""


class ProblemSize(NamedTuple):
    """What compiled programs know of a budget; all else of it is decided between them."""

    steps: int
    batch_size: int
    eval_examples: int

    @classmethod
    def of(cls, training: TrainingConfig) -> "ProblemSize":
        """That of a run."""
        return cls(training.steps, training.batch_size, training.eval_examples)


@dataclass(frozen=True)
class Problem:
    """What is trained, as pure functions of arrays."""

    lanes: tuple[Lane, ...]
    role: str
    """Names the random streams: lanes of equal seed and role share initial weights and data, which
    is what makes comparisons paired."""
    model: Functional
    sample: Callable[[jax.Array], Batch]
    """Key to training batch."""
    eval_batch: Callable[[], Batch]
    """The fixed evaluation set."""
    make_optimizer: Callable[[jax.Array], optax.GradientTransformation]
    """Peak learning rate of a lane to its optimiser."""
    teacher_apply: Callable[[Params, Inputs], jax.Array] | None
    """The teacher's forward pass; None when only labels supervise."""
    loss: LossFn
    work: Work
    """What an example costs."""
    selected_by: str = ""
    """What decides which positions are supervised, as on the command line; nothing where all
    are."""
    hidden_loss: HiddenLossFn | None = None
    """What a hidden layer learns from the teacher's; None: there is no such schedule."""
    correct: Callable[[jax.Array, jax.Array], dict[str, jax.Array]] = lambda *_: {}
    """(logits, labels) to further yes-or-no judgements of every position, whose means are recorded
    beside the accuracy."""
    on_cpu: Mapping[str, Any] = field(default_factory=dict)
    """Options of XLA's compiler on a CPU."""
    programs: dict[Hashable, Callable[..., Any]] = field(default_factory=dict)
    """Its compiled functions, for all runs of this problem in a process: copies of a problem with
    other lanes share them."""


class TrainState(NamedTuple):
    """Everything that changes while training. Every leaf has the lane axis first, so that it can be
    sharded and saved as it is."""

    params: Params
    opt_state: Any
    step_L: jax.Array
    """Completed updates (the same in every lane)."""
    loss_sum_L: jax.Array
    """Training loss summed since the last record ..."""
    loss_count_L: jax.Array
    """... over this many updates."""
    diverged_at_L: jax.Array
    """The update, counted from 1, at which the loss first was NaN or infinite; 0 while it has not
    been."""


class Engine(Protocol):
    """What `fit` asks for between events."""

    group_size: int
    """The teacher's parameters come with one entry for so many neighbouring lanes."""

    def init(self) -> TrainState:
        """The untrained state."""
        ...

    def place(self, tree: Any) -> Any:
        """Host arrays with a lane axis, put on the devices."""
        ...

    def advance(
        self,
        state: TrainState,
        teacher_params: Params | None,
        num_steps: int,
        layer: int | None = None,
    ) -> TrainState:
        """The state after `num_steps` more updates of the outputs, or of a hidden layer; consumes
        `state`."""
        ...

    def record(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """Evaluate, and hand over the training metrics gathered since the last record."""
        ...


class ScanEngine:
    """Mini-batch training as a `lax.scan` of `train_step`, vmapped over lanes and sharded over
    devices.

    On a CPU the number of steps is an argument, so that all gaps between events share one program.
    Elsewhere it is static (one compilation for each distinct gap): a scan of known length is
    launched once on a GPU, whereas a loop with a dynamic bound returns to the host after every
    step.
    """

    def __init__(self, problem: Problem, group_size: int = 1) -> None:
        """Compile lazily.

        Args:
            problem: what is trained.
            group_size: lanes in a group, which see the same data and share one entry of the
                teacher's parameters.
        """
        self.problem, self.group_size = problem, group_size
        self.mesh = lane_mesh(len(problem.lanes) // group_size)
        self.lane_sharding = NamedSharding(self.mesh, PartitionSpec(LANE))
        streams, seeds, rates = zip(
            *((lane.stream, lane.seed, lane.learning_rate) for lane in problem.lanes), strict=True
        )
        self.lanes = self.place(
            LaneArrays(
                jnp.asarray(streams, jnp.uint32),
                jnp.asarray(seeds, jnp.uint32),
                jnp.asarray(rates, jnp.float32),
            )
        )
        self.eval_batch = problem.eval_batch()
        self._compiler_options = compiler_options(problem.on_cpu)

    def init(self) -> TrainState:
        """Untrained parameters, from a lane's seed and the role; lane by lane, so that runs of
        other numbers of lanes share the program."""
        init = self.program("init", self._make_init)
        states = [
            init(jnp.uint32(lane.seed), jnp.float32(lane.learning_rate))
            for lane in self.problem.lanes
        ]
        return self.place(jax.tree.map(lambda *leaves: np.stack(leaves), *states))

    def place(self, tree: Any) -> Any:
        """Spread host arrays over the mesh along their lane axis."""
        return jax.device_put(tree, self.lane_sharding)

    def advance(
        self,
        state: TrainState,
        teacher_params: Params | None,
        num_steps: int,
        layer: int | None = None,
    ) -> TrainState:
        """One compiled chunk; asynchronous."""
        return self.program("advance", self._make_advance)(
            self.lanes, state, teacher_params, num_steps, layer
        )

    def record(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """Accuracy and loss on the evaluation set, mean training loss, divergence; asynchronous."""
        return self.program("record", self._make_record)(state, self.eval_batch)

    def program(self, name: str, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        """A compiled function of the problem, which does not know the lanes: made once in a process
        for each engine, group and mesh."""
        key = (type(self), name, self.group_size, self.mesh)
        if key not in self.problem.programs:
            self.problem.programs[key] = make()
        return self.problem.programs[key]

    def _make_init(self) -> Callable[[jax.Array, jax.Array], TrainState]:
        return jax.jit(
            functools.partial(init_lane, self.problem), compiler_options=self._compiler_options
        )

    def _make_advance(
        self,
    ) -> Callable[[LaneArrays, TrainState, Params | None, int, int | None], TrainState]:
        static_argnames = ("layer",) if jax.default_backend() == "cpu" else ("num_steps", "layer")

        @functools.partial(
            jax.jit,
            static_argnames=static_argnames,
            donate_argnames="state",
            compiler_options=self._compiler_options,
        )
        def advance(
            lanes: LaneArrays,
            state: TrainState,
            teacher_params: Params | None,
            num_steps: Count,
            layer: int | None,
        ) -> TrainState:
            def local_advance(
                num_steps: Count,
                lanes: LaneArrays,
                state: TrainState,
                teacher_params: Params | None,
            ) -> TrainState:
                lanes_GxR, state_GxR = jax.tree.map(self._in_groups, (lanes, state))
                streams_G, first_G = lanes_GxR.streams_L[:, 0], state_GxR.step_L[:, 0]
                lane = functools.partial(advance_lane, self.problem, num_steps, layer)
                over_groups = jax.vmap(jax.vmap(lane, (None, 0, 0, None, 0, None)))
                state_GxR = over_groups(
                    streams_G,
                    lanes_GxR.seeds_L,
                    lanes_GxR.rates_L,
                    first_G,
                    state_GxR,
                    teacher_params,
                )
                return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), state_GxR)

            if "num_steps" in static_argnames:
                return self._over_devices(functools.partial(local_advance, num_steps))(
                    lanes, state, teacher_params
                )
            return self._over_devices(local_advance, PartitionSpec())(
                num_steps, lanes, state, teacher_params
            )

        return advance

    def _make_record(self) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
        @functools.partial(
            jax.jit, donate_argnames="state", compiler_options=self._compiler_options
        )
        def record(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            lane_record = functools.partial(record_lane, self.problem)
            in_specs = (PartitionSpec(LANE), PartitionSpec())
            return jax.shard_map(
                jax.vmap(lane_record, (0, None)),
                mesh=self.mesh,
                in_specs=in_specs,
                out_specs=PartitionSpec(LANE),
            )(state, batch)

        return record

    def _in_groups(self, leaf_L: jax.Array) -> jax.Array:
        return leaf_L.reshape(-1, self.group_size, *leaf_L.shape[1:])

    def _over_devices(
        self, function: Callable[..., Any], *leading: PartitionSpec
    ) -> Callable[..., Any]:
        """A function of arguments with a lane axis, after some with specifications of their own, on
        all devices."""

        def spread(*args: Any) -> Any:
            in_specs = (*leading, *(PartitionSpec(LANE) for _ in args[len(leading) :]))
            return jax.shard_map(
                function, mesh=self.mesh, in_specs=in_specs, out_specs=PartitionSpec(LANE)
            )(*args)

        return spread


def init_lane(problem: Problem, seed: jax.Array, rate: jax.Array) -> TrainState:
    """The untrained state of one lane."""
    params = problem.model.init(lane_key(problem, seed, "init"))
    # Derived from `seed`, not constants, so that shard_map knows they vary over lanes.
    zero = jnp.zeros_like(seed)
    opt_state = jax.tree.map(
        lambda leaf: leaf + zero.astype(leaf.dtype), problem.make_optimizer(rate).init(params)
    )
    return TrainState(
        params,
        opt_state,
        zero.astype(jnp.int32),
        zero.astype(jnp.float32),
        zero.astype(jnp.int32),
        zero.astype(jnp.int32),
    )


def train_step(
    problem: Problem,
    optimizer: optax.GradientTransformation,
    layer: int | None,
    data_key: jax.Array,
    projection_key: jax.Array,
    dropout_key: jax.Array,
    step: jax.Array,
    state: TrainState,
    teacher_params: Params | None,
) -> TrainState:
    """One update of one lane, pure; the data of step t, and what is dropped in it, come from
    fold_in(key, t) alone."""
    batch = problem.sample(jax.random.fold_in(data_key, step))

    def output_loss(params: Params) -> jax.Array:
        logits = problem.model.apply(params, batch.inputs, jax.random.fold_in(dropout_key, step))
        teacher_logits = (
            logits
            if problem.teacher_apply is None or teacher_params is None
            else problem.teacher_apply(teacher_params, batch.inputs)
        )
        return masked_mean(
            problem.loss(logits, batch.labels, jax.lax.stop_gradient(teacher_logits), step),
            batch.mask,
        )

    def hidden_loss(params: Params) -> jax.Array:
        assert problem.hidden_loss is not None and teacher_params is not None and layer is not None
        return jnp.mean(
            problem.hidden_loss(params, teacher_params, batch.inputs, layer, projection_key)
        )

    loss_fn = output_loss if layer is None else hidden_loss
    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    first_bad = (state.diverged_at_L == 0) & ~jnp.isfinite(loss)
    return TrainState(
        params=cast(Params, optax.apply_updates(state.params, updates)),
        opt_state=opt_state,
        step_L=state.step_L + 1,
        loss_sum_L=state.loss_sum_L + loss,
        loss_count_L=state.loss_count_L + 1,
        diverged_at_L=jnp.where(first_bad, step + 1, state.diverged_at_L),
    )


def advance_lane(
    problem: Problem,
    num_steps: Count,
    layer: int | None,
    stream: jax.Array,
    seed: jax.Array,
    rate: jax.Array,
    first: jax.Array,
    state: TrainState,
    teacher_params: Params | None,
) -> TrainState:
    """`num_steps` updates of one lane in one loop.

    The step comes as an argument, although the state knows it: the state is one of many lanes, the
    step is common to a group, and what depends on nothing else (the data, the teacher's answers) is
    then computed once a group.
    """
    keys = (lane_key(problem, seed, purpose) for purpose in (f"projection-{layer}", "dropout"))
    update = functools.partial(
        train_step,
        problem,
        problem.make_optimizer(rate),
        layer,
        lane_key(problem, stream, "train-data"),
        *keys,
    )
    return jax.lax.fori_loop(
        0, num_steps, lambda i, state: update(first + i, state, teacher_params), state
    )


def record_lane(problem: Problem, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """Evaluation metrics and the mean training loss since the last record, which starts over."""

    def sums(part: Batch) -> tuple[Metrics, jax.Array]:
        logits = problem.model.apply(state.params, part.inputs)
        values = {
            "accuracy": jnp.argmax(logits, axis=-1) == part.labels,
            "eval_loss": label_cross_entropy(logits, part.labels),
            **problem.correct(logits, part.labels),
        }
        return {name: jnp.sum(value * part.mask) for name, value in values.items()}, jnp.sum(
            part.mask
        )

    # In parts, because the hidden activations of a whole evaluation set are far larger than the
    # model.
    size = part_size(len(batch.labels), EVAL_PART)
    parts = in_parts(batch, size)._replace(mask=in_parts(batch.mask, size, "zeros"))
    totals, count = jax.tree.map(jnp.sum, jax.lax.map(sums, parts))
    metrics = {
        **{name: total / count for name, total in totals.items()},
        "train_loss": (
            state.loss_sum_L / state.loss_count_L
        ),  # NaN before the first update: there is none
        "diverged_at": state.diverged_at_L,
    }
    return (
        state._replace(
            loss_sum_L=jnp.zeros_like(state.loss_sum_L),
            loss_count_L=jnp.zeros_like(state.loss_count_L),
        ),
        metrics,
    )


def lane_key(problem: Problem, seed: jax.Array, purpose: str) -> jax.Array:
    """The key of one purpose ("init", "train-data", "dropout") of a lane."""
    return purpose_key(jax.random.key(seed), f"{problem.role}/{purpose}")
