"""The compiled part of training: a whole chunk of steps (sampling, teacher forward, loss, update,
metrics) in one program.

An engine advances all lanes of a run by n updates. A lane is one (seed, learning rate); lanes are
an axis L, sharded over devices. Consecutive lanes that see the same data under the same teacher
form one of G groups, of L lanes each: both are computed once for the whole group. Functions of one
lane (`init_lane`, `train_step`, `advance_lane`, `record_lane`) know nothing of others: the lanes of
a device are vmapped, or, where their steps are long and the device is a CPU, groups follow one
another.

Where steps are long, devices that are left over share the examples of each batch: what is drawn is
the same, and sums over the batch are added up across them.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from common.base import processes
from common.base.keys import purpose_key
from common.base.mesh import BATCH, LANE, compiler_options, training_mesh
from common.base.parts import in_parts, part_size
from common.nn.functional import Batch, Functional, Params
from common.train.feed import Feed
from common.train.lanes import LaneArrays
from common.train.losses import label_cross_entropy, masked_mean
from common.train.problem import Data, Problem, Task

LONG_STEP = 2e8
"""Floating-point operations from which a step of one lane is long on a CPU: it keeps a core busy by
itself, and to add up its gradients over cores takes but a small part of it. Measured on two cores:
at 2e9 (BERT) both ways of `ScanEngine` to treat long steps are the faster ones, at 3e7 (GPT-2 on
parity) and 7e6 (an MLP) the slower ones."""
TIMES_ON_ACCELERATORS = 100
"""So many times as much on a GPU or TPU (not measured)."""
EVAL_PART = 64
"""Examples evaluated at one time: their activations are to stay in a core's cache."""
MOST_LOGITS = 2**29
"""Bytes of logits that are evaluated at one time."""

Metrics = dict[str, jax.Array]
Split = Callable[[Any], Any]
"""Spreads the examples of a batch, or of a part of the evaluation set, over the devices of a
lane."""
Count = int | jax.Array
"""A number of steps, known when a program is compiled or given to it."""


class LaneKeys(NamedTuple):
    """The random streams of one lane."""

    data: jax.Array
    """Training examples; common to the lanes of a group."""
    dropout: jax.Array
    projection: jax.Array
    """Of a hidden layer; one key is one projection."""


class TrainState(NamedTuple):
    """Everything that changes while training.

    Outside of functions of one lane every leaf has the lane axis first, so that it can be sharded
    and saved as it is.
    """

    params: Params
    opt_state: Any
    step: jax.Array
    """Completed updates (the same in every lane)."""
    loss_sum: jax.Array
    """Training loss summed since the last record ..."""
    loss_count: jax.Array
    """... over this many updates."""
    diverged_at: jax.Array
    """The update, counted from 1, at which the loss first was NaN or infinite; 0 while it has not
    been."""


class Engine(Protocol):
    """What `fit` asks for between events."""

    group_size: int
    """The teacher's parameters come with one entry for so many neighbouring lanes."""

    @property
    def num_devices(self) -> int:
        """Over which the lanes and their batches are spread."""
        ...

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
    """Mini-batch training as a loop of `train_step`, for all lanes.

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
        num_groups, batch_size = len(problem.lanes) // group_size, problem.size.batch_size
        self.mesh = training_mesh(num_groups, batch_size, self._has_long_steps())
        self._compiler_options = compiler_options(problem.task.on_cpu)
        self.lane_sharding = NamedSharding(self.mesh, PartitionSpec(LANE))
        self.lanes = self.place(LaneArrays.of(problem.lanes))
        self.data = self._place_data(problem.data())
        self.feed = self._make_feed()
        self.eval_batch = self._place_data(problem.evaluation())

    @property
    def num_devices(self) -> int:
        """Over which the lanes and their batches are spread."""
        return self.mesh.size

    def init(self) -> TrainState:
        """Parameters from a lane's seed and the role, but for those that the problem begins with;
        lane by lane, so that runs of other numbers of lanes share the program."""
        init = self.program("init", self._make_init)
        states = [
            init(jnp.uint32(lane.seed), jnp.float32(lane.learning_rate))
            for lane in self.problem.lanes
        ]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
        if self.problem.start is not None:
            stacked = stacked._replace(params=started(stacked.params, self.problem.start))
        return self.place(stacked)

    def place(self, tree: Any) -> Any:
        """Spread host arrays over the mesh along their lane axis."""
        return processes.spread(tree, self.lane_sharding)

    def advance(
        self,
        state: TrainState,
        teacher_params: Params | None,
        num_steps: int,
        layer: int | None = None,
    ) -> TrainState:
        """One compiled chunk; asynchronous. Where examples are fed it is cut into pieces, and each
        waits for the one before."""
        if self.feed is None:
            return self._advance(self.data, state, teacher_params, num_steps, layer)
        for num_in_piece in self.feed.pieces(num_steps):
            first = int(np.asarray(state.step.addressable_data(0))[0])
            part = self.feed.part(first, num_in_piece)
            data = self.problem.task.with_stored(self.data, part)
            state = self._advance(data, state, teacher_params, num_in_piece, layer)
        return state

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

    def _advance(
        self,
        data: Data,
        state: TrainState,
        teacher_params: Params | None,
        num_steps: int,
        layer: int | None,
    ) -> TrainState:
        """`advance` on these data, of which those steps find there what they see."""
        return self.program("advance", self._make_advance)(
            data, self.lanes, state, teacher_params, num_steps, layer
        )

    def _place_data(self, data: Data) -> Data:
        """Put data on every device: all lanes read the same."""
        return processes.spread(data, NamedSharding(self.mesh, PartitionSpec()))

    def _make_feed(self) -> Feed | None:
        """What hands over the examples; None: the devices have them."""
        if not self.problem.is_fed:
            return None
        stored = self.problem.task.stored()
        assert stored is not None
        streams = sorted({lane.stream for lane in self.problem.lanes})
        streams_S, draw = jnp.asarray(streams, jnp.uint32), self.program("draw", self._make_draw)
        return Feed(
            stored,
            lambda first, num_steps: draw(streams_S, first, num_steps),
            self._place_data,
            step_examples=len(streams) * self.problem.size.batch_size,
        )

    def _make_draw(self) -> Callable[..., jax.Array]:
        """The program `(streams, first, num_steps)` to the numbers of all examples of these
        steps."""

        @functools.partial(jax.jit, static_argnums=2, compiler_options=self._compiler_options)
        def draw(streams_S: jax.Array, first: int | jax.Array, num_steps: int) -> jax.Array:
            stored = self.problem.task.stored()
            assert stored is not None

            def of_step(stream: jax.Array, step: jax.Array) -> jax.Array:
                key = jax.random.fold_in(lane_key(self.problem, stream, "train-data"), step)
                return stored.draw(key, self.problem.size.batch_size)

            steps_U = first + jnp.arange(num_steps)
            return jax.vmap(lambda stream: jax.vmap(lambda step: of_step(stream, step))(steps_U))(
                streams_S
            )

        return draw

    def _make_init(self) -> Callable[[jax.Array, jax.Array], TrainState]:
        return jax.jit(
            functools.partial(init_lane, self.problem), compiler_options=self._compiler_options
        )

    def _make_advance(self) -> Callable[..., TrainState]:
        """The program `(data, lanes, state, teacher_params, num_steps, layer)` to the new state."""
        is_length_argument = jax.default_backend() == "cpu"
        static_argnames = ("layer",) if is_length_argument else ("num_steps", "layer")

        @functools.partial(
            jax.jit,
            static_argnames=static_argnames,
            donate_argnames="state",
            out_shardings=self.lane_sharding,
            compiler_options=self._compiler_options,
        )
        def advance(
            data: Data,
            lanes: LaneArrays,
            state: TrainState,
            teacher_params: Params | None,
            num_steps: Count,
            layer: int | None,
        ) -> TrainState:
            on_device = functools.partial(self._advance_on_device, layer)
            if is_length_argument:
                spread = self._over_devices(on_device, num_common=2)
                return spread(num_steps, data, lanes, state, teacher_params)
            spread = self._over_devices(functools.partial(on_device, num_steps), num_common=1)
            return spread(data, lanes, state, teacher_params)

        return advance

    def _advance_on_device(
        self,
        layer: int | None,
        num_steps: Count,
        data: Data,
        lanes: LaneArrays,
        state: TrainState,
        teacher_params: Params | None,
    ) -> TrainState:
        """`num_steps` updates of the lanes of one device, groups of neighbours together."""
        lanes_GxL, state_GxL = jax.tree.map(self._in_groups, (lanes, state))
        streams_G, first_G = lanes_GxL.streams_L[:, 0], state_GxL.step[:, 0]
        lane = functools.partial(advance_lane, self.problem, self._split, data, num_steps, layer)
        # Within a group the stream, the step and the teacher are common.
        over_lanes = jax.vmap(lane, (None, 0, 0, None, 0, None))
        state_GxL = self._over_groups(over_lanes)(
            streams_G, lanes_GxL.seeds_L, lanes_GxL.rates_L, first_G, state_GxL, teacher_params
        )
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), state_GxL)

    def _make_record(self) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
        def on_device(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            of_lane = functools.partial(record_lane, self.problem, self._split, batch=batch)
            return self._over_groups(of_lane)(state)

        spread = jax.shard_map(
            on_device,
            mesh=self.mesh,
            in_specs=(PartitionSpec(LANE), PartitionSpec()),
            out_specs=PartitionSpec(LANE),
            axis_names={LANE},
        )

        @functools.partial(
            jax.jit,
            donate_argnames="state",
            out_shardings=self.lane_sharding,
            compiler_options=self._compiler_options,
        )
        def record(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            return spread(state, batch)

        return record

    def _has_long_steps(self) -> bool:
        """Whether devices share batches, and cores do one lane after the other."""
        work, is_on_cpu = self.problem.work, jax.default_backend() == "cpu"
        of_example = work.flops + work.teacher_flops / self.group_size
        least = LONG_STEP * (1 if is_on_cpu else TIMES_ON_ACCELERATORS)
        return self.problem.size.batch_size * of_example >= least

    def _split(self, examples: Any) -> Any:
        """Examples, spread over the devices that share a lane if there are any. (A part of the
        evaluation set that cannot be shared equally is evaluated by each of them.)"""
        if BATCH not in self.mesh.axis_names:
            return examples
        num_parts = self.mesh.shape[BATCH]

        def spread(leaf: jax.Array) -> jax.Array:
            if leaf.shape[0] % num_parts:
                return leaf
            return jax.lax.with_sharding_constraint(leaf, PartitionSpec(BATCH))

        return jax.tree.map(spread, examples)

    def _over_groups(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function for all groups of a device: one after the other, where each keeps a core of
        a CPU busy by itself and its arrays stay in the core's cache; else together."""
        if jax.default_backend() == "cpu" and self._has_long_steps():
            return lambda *args: jax.lax.map(lambda of_group: function(*of_group), args)
        return jax.vmap(function)

    def _in_groups(self, leaf_L: jax.Array) -> jax.Array:
        return leaf_L.reshape(-1, self.group_size, *leaf_L.shape[1:])

    def _over_devices(self, function: Callable[..., Any], num_common: int) -> Callable[..., Any]:
        """A function on all devices, each with its lanes; the first arguments are common to all."""

        def spread(*args: Any) -> Any:
            num_split = len(args) - num_common
            specs = [PartitionSpec()] * num_common + [PartitionSpec(LANE)] * num_split
            on_devices = jax.shard_map(
                function,
                mesh=self.mesh,
                in_specs=tuple(specs),
                out_specs=PartitionSpec(LANE),
                axis_names={LANE},
            )
            return on_devices(*args)

        return spread


def started(params: Params, start: Params) -> Params:
    """Parameters of all lanes with some that all begin with.

    Args:
        params: random ones, lanes first.
        start: those, without lanes; parts that are not there stay random.
    """
    begun = dict(params)
    for name, part in start.items():
        if isinstance(part, dict):
            begun[name] = started(params[name], part)
        else:
            begun[name] = np.broadcast_to(part, params[name].shape).astype(params[name].dtype)
    return begun


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
    split: Split,
    data: Data,
    optimizer: optax.GradientTransformation,
    layer: int | None,
    keys: LaneKeys,
    step: jax.Array,
    state: TrainState,
    teacher_params: Params | None,
) -> TrainState:
    """One update of one lane, pure; the data of step t, and what is dropped in it, come from
    fold_in(key, t) alone."""
    batch = problem.sample(data, jax.random.fold_in(keys.data, step), teacher_params)
    dropout_key = jax.random.fold_in(keys.dropout, step)

    def losses(params: Params, examples: Batch, key: jax.Array) -> jax.Array:
        logits = problem.model.apply(params, examples.inputs, key)
        if problem.teaching is None or problem.is_generated:
            return label_cross_entropy(logits, examples.labels)
        assert teacher_params is not None
        teacher_logits = problem.teaching.apply(teacher_params, examples.inputs)
        return problem.teaching.loss(
            logits, examples.labels, jax.lax.stop_gradient(teacher_logits), step
        )

    def output_loss(params: Params) -> jax.Array:
        spread = split(batch)
        return masked_mean(losses(params, spread, dropout_key), spread.mask)

    def hidden_loss(params: Params) -> jax.Array:
        assert problem.teaching is not None and teacher_params is not None and layer is not None
        return problem.teaching.hidden_loss(
            params, teacher_params, split(batch).inputs, layer, keys.projection
        )

    learns_layer = layer is not None and problem.teaching is not None and not problem.is_generated
    if learns_layer:
        loss, grads = jax.value_and_grad(hidden_loss)(state.params)
    elif problem.size.parts is None:
        loss, grads = jax.value_and_grad(output_loss)(state.params)
    else:
        loss, grads = _accumulated(
            losses, state.params, batch, problem.size.parts, split, dropout_key
        )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    is_first_bad = (state.diverged_at == 0) & ~jnp.isfinite(loss)
    return TrainState(
        params=cast(Params, optax.apply_updates(state.params, updates)),
        opt_state=opt_state,
        step=state.step + 1,
        loss_sum=state.loss_sum + loss,
        loss_count=state.loss_count + 1,
        diverged_at=jnp.where(is_first_bad, step + 1, state.diverged_at),
    )


def _accumulated(
    losses: Callable[[Params, Batch, jax.Array], jax.Array],
    params: Params,
    batch: Batch,
    parts: int,
    split: Split,
    key: jax.Array,
) -> tuple[jax.Array, Params]:
    """The mean loss over all supervised positions of a batch and its gradient, added up part by
    part: a part is worth as much as it has of those positions.

    Args:
        losses: (parameters, examples, key) to the loss at each position.
        params: of the model.
        batch: the whole.
        parts: how many.
        split: spreads the examples of a part over the devices of a lane.
        key: of what is dropped; each part has one of its own.
    """
    size = -(-len(batch.labels) // parts)
    of_parts = in_parts(batch, size)._replace(mask=in_parts(batch.mask, size, "zeros"))
    num_supervised = jnp.maximum(jnp.sum(batch.mask), 1)

    def add(
        so_far: tuple[jax.Array, Params], numbered: tuple[jax.Array, Batch]
    ) -> tuple[tuple[jax.Array, Params], None]:
        number, part = numbered[0], split(numbered[1])

        def share(params: Params) -> jax.Array:
            of_part = losses(params, part, jax.random.fold_in(key, number))
            return jnp.sum(of_part * part.mask) / num_supervised

        return jax.tree.map(jnp.add, so_far, jax.value_and_grad(share)(params)), None

    # From the parameters, so that shard_map knows that they vary over lanes.
    zero = jnp.zeros_like(jnp.sum(jax.tree.leaves(params)[0]))
    numbers = jnp.arange(len(of_parts.labels))
    nothing = zero, jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(add, nothing, (numbers, of_parts))[0]


def advance_lane(
    problem: Problem,
    split: Split,
    data: Data,
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
    keys = LaneKeys(
        data=lane_key(problem, stream, "train-data"),
        dropout=lane_key(problem, seed, "dropout"),
        projection=lane_key(problem, seed, f"projection-{layer}"),
    )
    optimizer = problem.make_optimizer(rate)

    def update(i: jax.Array, state: TrainState) -> TrainState:
        return train_step(
            problem, split, data, optimizer, layer, keys, first + i, state, teacher_params
        )

    return jax.lax.fori_loop(0, num_steps, update, state)


def record_lane(
    problem: Problem, split: Split, state: TrainState, batch: Batch
) -> tuple[TrainState, Metrics]:
    """Evaluation metrics and the mean training loss since the last record, which starts over."""
    metrics = {
        **evaluated(problem.task, problem.model, state.params, batch, split),
        # NaN before the first update: there is none.
        "train_loss": state.loss_sum / state.loss_count,
        "diverged_at": state.diverged_at,
    }
    started_over = state._replace(
        loss_sum=jnp.zeros_like(state.loss_sum), loss_count=jnp.zeros_like(state.loss_count)
    )
    return started_over, metrics


def evaluated(
    task: Task, model: Functional, params: Params, batch: Batch, split: Split = lambda part: part
) -> Metrics:
    """Accuracy, loss and what else a task measures, means over all positions of a batch that count.

    Args:
        task: of the model.
        model: which it is.
        params: its parameters.
        batch: the evaluation set.
        split: spreads the examples of a part over devices.
    """

    def sums(part: Batch) -> tuple[Metrics, jax.Array]:
        part = split(part)
        logits = model.apply(params, part.inputs)
        values = {
            "accuracy": jnp.argmax(logits, axis=-1) == part.labels,
            "eval_loss": label_cross_entropy(logits, part.labels),
            **task.correct(logits, part.labels),
        }
        totals = {name: jnp.sum(value * part.mask) for name, value in values.items()}
        return totals, jnp.sum(part.mask)

    # In parts, because the hidden activations of a whole evaluation set are far larger than the
    # model, and the logits over a large vocabulary at every position larger still.
    most_classes = max(max(leaf.shape, default=1) for leaf in jax.tree.leaves(params))
    logits_bytes = 4 * math.prod(batch.labels.shape[1:]) * most_classes
    size = part_size(len(batch.labels), max(1, min(EVAL_PART, MOST_LOGITS // logits_bytes)))
    parts = in_parts(batch, size)._replace(mask=in_parts(batch.mask, size, "zeros"))
    totals, count = jax.tree.map(jnp.sum, jax.lax.map(sums, parts))
    return {name: total / count for name, total in totals.items()}


def lane_key(problem: Problem, seed: jax.Array, purpose: str) -> jax.Array:
    """The key of one purpose ("init", "train-data", "dropout") of a lane."""
    return purpose_key(jax.random.key(seed), f"{problem.role}/{purpose}")
