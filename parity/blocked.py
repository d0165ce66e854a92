"""SGD on the two-layer MLP in blocks of steps: what step-by-step SGD computes, up to rounding, in
less time.

A step on one example changes the hidden weights by a term of rank one, -rate * delta_s x_s^T. So
the pre-activations of step t of a block are those of the block's first weights, W x_t, less the sum
over s < t of rate * delta_s (x_s . x_t), with the bias as the weight of a constant input. One
matrix product gives all W x_t, another all x_s . x_t. The steps in order then touch only
activations and the second layer. A third product updates W. So the hidden weights are read and
written once a block, not once a step.

Axes are those of `common`. The U updates of a block see N = U x B examples; the last of the I
inputs is constant.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from common.nn.functional import Batch, Params
from common.train.engine import ScanEngine, TrainState, lane_key
from common.train.lanes import LaneArrays
from common.train.losses import label_cross_entropy, masked_mean
from common.train.problem import Data, Problem

BLOCK_ROWS = 32
"""Examples in a block. Longer blocks make the steps in order slower, shorter ones the products
(`python -m benchmarks.blocked`). Blocks within blocks were no faster."""


class Network(NamedTuple):
    """The MLP's parameters with the hidden units last: every operation of the inner loop runs along
    that axis."""

    w1_IxM: jax.Array
    """Weights of the inputs, then the biases: those of a constant input."""
    w2_CxM: jax.Array
    b2_C: jax.Array


class BlockedEngine(ScanEngine):
    """`ScanEngine` with the steps taken in blocks; the states of the two are interchangeable.

    Lanes on one device train one after another, because stacking them is no faster on a CPU: a wide
    network fills the cores by itself, and the small operations of a narrow one take longer in
    batches.
    """

    def __init__(self, problem: Problem, group_size: int = 1, block_rows: int = BLOCK_ROWS) -> None:
        """Check that blocks apply.

        Args:
            problem: a two-layer MLP and plain SGD.
            group_size: lanes in a group, as in `ScanEngine`.
            block_rows: examples in a block, if a single step does not take more.

        Raises:
            ValueError: another model or another optimiser.
        """
        check_applies(problem)
        super().__init__(problem, group_size)
        self.block_rows = block_rows

    def _advance(
        self,
        data: Data,
        state: TrainState,
        teacher_params: Params | None,
        num_steps: int,
        layer: int | None,
    ) -> TrainState:
        """Steps that learn a hidden layer are taken one by one."""
        if layer is not None:
            return super()._advance(data, state, teacher_params, num_steps, layer)
        return self.program("blocks", self._make_blocks)(
            data, self.lanes, state, teacher_params, num_steps
        )

    def compiled(
        self, state: TrainState, teacher_params: Params | None, num_steps: int
    ) -> jax.stages.Compiled:
        """The compiled program of one chunk, for its cost."""
        lowered = self._make_blocks().lower(self.data, self.lanes, state, teacher_params, num_steps)
        return lowered.compile()

    def program(self, name: str, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        """The compiled program of this name, one for each size of a block."""
        return super().program(f"{name}, blocks of {self.block_rows}", make)

    def _has_long_steps(self) -> bool:
        """Never: a batch has eight examples at the most."""
        return False

    def _make_blocks(self) -> jax.stages.Wrapped:
        """The program `(data, lanes, state, teacher_params, num_steps)` to the new state."""

        @functools.partial(jax.jit, static_argnames="num_steps", donate_argnames="state")
        def advance(
            data: Data,
            lanes: LaneArrays,
            state: TrainState,
            teacher_params: Params | None,
            num_steps: int,
        ) -> TrainState:
            on_device = functools.partial(self._blocks_on_device, num_steps)
            return self._over_devices(on_device, num_common=1)(data, lanes, state, teacher_params)

        return advance

    def _blocks_on_device(
        self,
        num_steps: int,
        data: Data,
        lanes: LaneArrays,
        state: TrainState,
        teacher_params_G: Params | None,
    ) -> TrainState:
        """`num_steps` updates of the lanes of one device. A group's teacher answers once for all
        its lanes."""
        problem, block_rows = self.problem, self.block_rows
        teacher_logits_LxUxBxC = None
        if teacher_params_G is not None:
            streams_G = lanes.streams_L[:: self.group_size]
            first_G = state.step[:: self.group_size]
            teacher_logits_GxUxBxC = jax.lax.map(
                lambda group: teach_group(problem, data, block_rows, num_steps, *group),
                (streams_G, first_G, teacher_params_G),
            )
            teacher_logits_LxUxBxC = jnp.repeat(teacher_logits_GxUxBxC, self.group_size, axis=0)
        return jax.lax.map(
            lambda lane: advance_lane(problem, data, block_rows, num_steps, *lane),
            (lanes.streams_L, lanes.rates_L, state, teacher_logits_LxUxBxC),
        )


def advance_lane(
    problem: Problem,
    data: Data,
    block_rows: int,
    num_steps: int,
    stream: jax.Array,
    rate: jax.Array,
    state: TrainState,
    teacher_logits_UxBxC: jax.Array | None,
) -> TrainState:
    """`num_steps` updates of one lane; U of the logits is `num_steps` rounded up to full blocks."""
    data_key = lane_key(problem, stream, "train-data")
    momentary_rates = jax.vmap(
        functools.partial(momentary_rate, problem.make_optimizer(rate)), (None, 0)
    )
    block_steps = steps_in_block(problem, block_rows)
    num_blocks = -(-num_steps // block_steps)
    stop = state.step + num_steps

    def advance_block(
        carry: tuple[Network, TrainState], of_block_UxBxC: jax.Array | None
    ) -> tuple[tuple[Network, TrainState], None]:
        network, state = carry
        ahead_U = jnp.arange(block_steps)
        steps_U = state.step + ahead_U
        # Beyond the last step the rate is zero, so that one size of block is compiled.
        counted_U = steps_U < stop
        rates_U = jnp.where(counted_U, momentary_rates(state.opt_state, ahead_U), 0.0)
        batch_U = jax.vmap(lambda step: problem.sample(data, jax.random.fold_in(data_key, step)))(
            steps_U
        )
        # A GPU would round factors to ten bits, and blocks would differ from steps.
        with jax.default_matmul_precision("highest"):
            network, losses_U = block_of_steps(
                problem, network, batch_U, of_block_UxBxC, steps_U, rates_U
            )
        return (network, count_steps(state, losses_U, counted_U)), None

    blocks = None
    if teacher_logits_UxBxC is not None:
        of_step = teacher_logits_UxBxC.shape[1:]
        blocks = teacher_logits_UxBxC.reshape(num_blocks, block_steps, *of_step)
    carry = (to_network(state.params), state._replace(params={}))
    (network, state), _ = jax.lax.scan(advance_block, carry, blocks, length=num_blocks)
    return state._replace(params=to_params(network))


def teach_group(
    problem: Problem,
    data: Data,
    block_rows: int,
    num_steps: int,
    stream: jax.Array,
    step: jax.Array,
    params: Params,
) -> jax.Array:
    """The teacher's logits `(U, B, C)` on the next inputs of a group, a block at a time; U as in
    `advance_lane`."""
    data_key = lane_key(problem, stream, "train-data")
    teaching = problem.teaching
    assert teaching is not None
    block_steps = steps_in_block(problem, block_rows)
    num_blocks = -(-num_steps // block_steps)

    def teach(step: jax.Array) -> jax.Array:
        batch = problem.sample(data, jax.random.fold_in(data_key, step))
        return teaching.apply(params, batch.inputs)

    return jax.lax.map(teach, step + jnp.arange(num_blocks * block_steps), batch_size=block_steps)


def block_of_steps(
    problem: Problem,
    network: Network,
    batch_U: Batch,
    teacher_logits_UxBxC: jax.Array | None,
    steps_U: jax.Array,
    rates_U: jax.Array,
) -> tuple[Network, jax.Array]:
    """U steps of SGD in order, and the loss `(U,)` before each of them."""
    num_steps, batch_size = batch_U.labels.shape
    x_NxI = jnp.pad(
        batch_U.inputs.reshape(num_steps * batch_size, -1), ((0, 0), (0, 1)), constant_values=1.0
    )
    pre_UxBxM = (x_NxI @ network.w1_IxM).reshape(num_steps, batch_size, -1)
    gram_UxBxN = (x_NxI @ x_NxI.T).reshape(num_steps, batch_size, -1)

    deltas_NxM = jnp.zeros_like(pre_UxBxM).reshape(num_steps * batch_size, -1)
    now_U = (
        jnp.arange(num_steps),
        pre_UxBxM,
        gram_UxBxN,
        batch_U,
        teacher_logits_UxBxC,
        steps_U,
        rates_U,
    )
    # Unrolled, because a narrow network's step is bound by the number of operations, those of the
    # loop itself among them.
    (deltas_NxM, w2_CxM, b2_C), losses_U = jax.lax.scan(
        functools.partial(_step, problem),
        (deltas_NxM, network.w2_CxM, network.b2_C),
        now_U,
        unroll=4,
    )
    return Network(network.w1_IxM - x_NxI.T @ deltas_NxM, w2_CxM, b2_C), losses_U


def _step(
    problem: Problem, carry: tuple[jax.Array, jax.Array, jax.Array], now: tuple[Any, ...]
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array]:
    """One step of a block: the changes of the pre-activations and of the second layer, and the loss
    before them."""
    deltas_NxM, w2_CxM, b2_C = carry
    t, pre_BxM, gram_BxN, batch, teacher_logits_BxC, step, rate = now
    pre_BxM = pre_BxM - gram_BxN @ deltas_NxM  # rows from t on are still zero
    h_BxM = jax.nn.relu(pre_BxM)

    def loss_fn(logits_BxC: jax.Array) -> jax.Array:
        if problem.teaching is None:
            losses_B = label_cross_entropy(logits_BxC, batch.labels)
        else:
            losses_B = problem.teaching.loss(logits_BxC, batch.labels, teacher_logits_BxC, step)
        return masked_mean(losses_B, batch.mask)

    loss, grad_BxC = jax.value_and_grad(loss_fn)((w2_CxM @ h_BxM.T).T + b2_C[None])
    scaled_BxC = rate * grad_BxC
    by_class = [
        scaled_B[:, None] * w2_M[None] for scaled_B, w2_M in zip(scaled_BxC.T, w2_CxM, strict=True)
    ]
    back_BxM = functools.reduce(jnp.add, by_class)
    delta_BxM = jnp.where(pre_BxM > 0, back_BxM, 0.0)
    first_row = t * len(pre_BxM)
    deltas_NxM = jax.lax.dynamic_update_slice_in_dim(deltas_NxM, delta_BxM, first_row, 0)
    return (deltas_NxM, w2_CxM - scaled_BxC.T @ h_BxM, b2_C - jnp.sum(scaled_BxC, axis=0)), loss


def count_steps(state: TrainState, losses_U: jax.Array, counted_U: jax.Array) -> TrainState:
    """A state with its counters advanced by the counted ones of U steps, which come first."""
    num_steps = jnp.sum(counted_U, dtype=jnp.int32)
    bad_U = counted_U & ~jnp.isfinite(losses_U)
    first_bad = (state.diverged_at == 0) & jnp.any(bad_U)
    return state._replace(
        opt_state=jax.tree.map(lambda count: count + num_steps, state.opt_state),
        step=state.step + num_steps,
        loss_sum=state.loss_sum + jnp.sum(jnp.where(counted_U, losses_U, 0.0)),
        loss_count=state.loss_count + num_steps,
        diverged_at=jnp.where(
            first_bad, state.step + 1 + jnp.argmax(bad_U).astype(jnp.int32), state.diverged_at
        ),
    )


def momentary_rate(
    optimizer: optax.GradientTransformation, opt_state: Any, ahead: jax.Array
) -> jax.Array:
    """The learning rate of plain SGD some steps ahead: its update for a gradient of one."""
    update, _ = optimizer.update(jnp.ones(()), jax.tree.map(lambda count: count + ahead, opt_state))
    return -jnp.asarray(update)


def steps_in_block(problem: Problem, block_rows: int) -> int:
    """Steps in a block of at most `block_rows` examples; at least one."""
    return max(1, block_rows // problem.size.batch_size)


def to_network(params: Params) -> Network:
    """The MLP's parameters in the form of the inner loop."""
    hidden, output = params["hidden"], params["output"]
    return Network(
        jnp.concatenate([hidden["kernel"], hidden["bias"][None]]),
        output["kernel"].T,
        output["bias"],
    )


def to_params(network: Network) -> Params:
    """The inverse of `to_network`."""
    hidden = {"kernel": network.w1_IxM[:-1], "bias": network.w1_IxM[-1]}
    return {"hidden": hidden, "output": {"kernel": network.w2_CxM.T, "bias": network.b2_C}}


def check_applies(problem: Problem) -> None:
    """Raise a ValueError unless the model is the two-layer MLP and the optimiser multiplies the
    gradient by a rate that only the step decides."""
    params = jax.eval_shape(problem.model.init, jax.random.key(0))
    layer = {"kernel", "bias"}
    if set(params) != {"hidden", "output"} or any(set(params[name]) != layer for name in params):
        raise ValueError(
            "the blocked engine trains a two-layer MLP and no other model; use --engine scan"
        )
    optimizer = problem.make_optimizer(jnp.float32(1.0))
    grads = jax.tree.map(lambda leaf: jnp.full(leaf.shape[-1:], 1e3), params)
    opt_state = optimizer.init(grads)
    plain = optax.sgd(optax.constant_schedule(1.0)).init(grads)
    if jax.tree.structure(opt_state) == jax.tree.structure(plain):
        updates, _ = optimizer.update(
            grads, jax.tree.map(lambda count: count + 1, opt_state), grads
        )
        rate = momentary_rate(optimizer, opt_state, jnp.int32(1))
        if all(bool(jnp.all(update == -rate * 1e3)) for update in jax.tree.leaves(updates)):
            return
    raise ValueError(
        "the blocked engine needs plain SGD, without momentum, weight decay or clipping; use"
        " --engine scan"
    )
