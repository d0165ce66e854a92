"""Exact SGD on the two-layer MLP, a block of steps at a time: what step-by-step SGD computes, up to rounding, at the speed of matrix products.

A step on one example changes the hidden weights by a term of rank one, -rate * delta_s x_s^T. So the pre-activations of step t of a block are those
of the block's first weights, W x_t, less the sum over s < t of rate * delta_s (x_s . x_t), with the bias as the weight of a constant input. All W x_t
are one matrix product, all x_s . x_t another; B cheap steps in order touch only activations and the second layer; a third product updates W.
The hidden weights are read and written once a block, not once a step.

Shapes: L lanes; N steps at a time, in full blocks; T steps of B examples make a block of R = T x B rows; D inputs and a constant one, I = D + 1; M hidden units; C classes.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from common.engine import Batch, Problem, ScanEngine, TrainState, lane_key
from common.losses import masked_mean
from common.mesh import LANE, lane_mesh
from common.models import Params

BLOCK_ROWS = 32
"""Examples in a block. The steps in order cost more with longer blocks, the products with shorter ones (`python -m benchmarks.blocked`)."""


class Network(NamedTuple):
    """The MLP's parameters with the hidden units last, which is the axis every operation of the inner loop runs along."""

    w1_IxM: jax.Array
    """Weights of the D inputs, then the biases."""
    w2_CxM: jax.Array
    b2_C: jax.Array


class BlockedEngine(ScanEngine):
    """`ScanEngine` with the steps taken in blocks; states and checkpoints of the two are interchangeable.

    Lanes on one device are trained one after another, because that is no slower on a CPU than stacking them: each fills the cores already (wide), or
    is bound by the number of operations and not by their size (narrow).
    """

    def __init__(self, problem: Problem, block_rows: int = BLOCK_ROWS) -> None:
        """Check that blocks apply.

        Args:
            problem: a two-layer MLP and plain SGD.
            block_rows: examples in a block; at least one step is taken.

        Raises:
            ValueError: another model or another optimiser.
        """
        check_applies(problem)
        super().__init__(problem)
        self.block_rows = block_rows
        self._teachers: _Teachers | None = None

    def advance(self, state: TrainState, teacher_params: Params | None, num_steps: int) -> TrainState:
        """Blocks, the last of which may be cut short; asynchronous."""
        supervised = teacher_params is not None and self.problem.teacher_apply is not None
        teacher_logits_LxNxBxC = self._teacher_logits(state, teacher_params, num_steps) if supervised else None
        return self._advance_blocks(state, teacher_logits_LxNxBxC, num_steps)

    @functools.cached_property
    def _advance_blocks(self) -> Callable[[TrainState, jax.Array | None, int], TrainState]:
        @functools.partial(jax.jit, static_argnums=2, donate_argnums=0)
        def advance(state: TrainState, teacher_logits_LxNxBxC: jax.Array | None, num_steps: int) -> TrainState:
            lane_advance = functools.partial(advance_lane, self.problem, self.block_rows, num_steps)
            return _each_lane(lane_advance, self.mesh)(self.seeds_L, self.rates_L, state, teacher_logits_LxNxBxC)

        return advance

    def _teacher_logits(self, state: TrainState, teacher_params: Params, num_steps: int) -> jax.Array:
        """What the teacher of every lane says about its next inputs, `(L, N, B, C)`; lanes of equal seed and teacher ask once."""
        if self._teachers is None or self._teachers.of is not teacher_params:
            self._teachers = _Teachers.distinct(self.problem, teacher_params)
        teachers = self._teachers
        step_U = jax.device_put(state.step_L[np.asarray(teachers.lanes_U)], teachers.seeds_U.sharding)
        logits_UxNxBxC = self._teach(teachers.seeds_U, step_U, teachers.params_U, num_steps)
        return jax.device_put(logits_UxNxBxC[np.asarray(teachers.index_L)], self.lane_sharding)

    @functools.cached_property
    def _teach(self) -> Callable[[jax.Array, jax.Array, Params, int], jax.Array]:
        @functools.partial(jax.jit, static_argnums=3)
        def teach(seeds_U: jax.Array, step_U: jax.Array, params_U: Params, num_steps: int) -> jax.Array:
            lane_teach = functools.partial(teach_lane, self.problem, self.block_rows, num_steps)
            return _each_lane(lane_teach, lane_mesh(len(seeds_U)))(seeds_U, step_U, params_U)

        return teach


class _Teachers(NamedTuple):
    """The U different pairs of data stream and teacher among the lanes."""

    of: Params
    """The stacked parameters, one teacher a lane, that these were taken from."""
    params_U: Params
    seeds_U: jax.Array
    lanes_U: tuple[int, ...]
    """The first lane of each pair."""
    index_L: tuple[int, ...]
    """The pair of each lane."""

    @staticmethod
    def distinct(problem: Problem, teacher_params: Params) -> "_Teachers":
        """Compare the teachers of lanes of equal seed; waits for the device."""
        leaves = jax.tree.leaves(teacher_params)

        def same(a: int, b: int) -> bool:
            return problem.lanes[a].seed == problem.lanes[b].seed and all(bool(jnp.array_equal(leaf[a], leaf[b])) for leaf in leaves)

        lanes_U: list[int] = []
        index_L = []
        for lane in range(len(problem.lanes)):
            known = next((u for u, first in enumerate(lanes_U) if same(first, lane)), None)
            index_L.append(len(lanes_U) if known is None else known)
            if known is None:
                lanes_U.append(lane)
        sharding = NamedSharding(lane_mesh(len(lanes_U)), PartitionSpec(LANE))
        every = len(lanes_U) == len(problem.lanes)
        params_U = teacher_params if every else jax.device_put(jax.tree.map(lambda leaf: leaf[np.asarray(lanes_U)], teacher_params), sharding)
        seeds_U = jax.device_put(jnp.asarray([problem.lanes[lane].seed for lane in lanes_U], jnp.uint32), sharding)
        return _Teachers(teacher_params, params_U, seeds_U, tuple(lanes_U), tuple(index_L))


def advance_lane(
    problem: Problem, block_rows: int, num_steps: int, seed: jax.Array, rate: jax.Array, state: TrainState, teacher_logits_NxBxC: jax.Array | None
) -> TrainState:
    """`num_steps` updates of one lane; N is `num_steps` rounded up to full blocks."""
    data_key = lane_key(problem, seed, "train-data")
    momentary_rates = jax.vmap(functools.partial(momentary_rate, problem.make_optimizer(rate)), (None, 0))
    block_steps = steps_in_block(problem, block_rows)
    num_blocks = -(-num_steps // block_steps)
    stop = state.step_L + num_steps

    def advance_block(carry: tuple[Network, TrainState], teacher_logits_TxBxC: jax.Array | None) -> tuple[tuple[Network, TrainState], None]:
        network, state = carry
        ahead_T = jnp.arange(block_steps)
        steps_T = state.step_L + ahead_T
        counted_T = steps_T < stop  # the last block goes on at rate zero, so that there is only one size of block to compile
        rates_T = jnp.where(counted_T, momentary_rates(state.opt_state, ahead_T), 0.0)
        batch_T = jax.vmap(lambda step: problem.sample(jax.random.fold_in(data_key, step)))(steps_T)
        network, losses_T = block_of_steps(problem, network, batch_T, teacher_logits_TxBxC, steps_T, rates_T)
        return (network, count_steps(state, losses_T, counted_T)), None

    blocks = None if teacher_logits_NxBxC is None else teacher_logits_NxBxC.reshape(num_blocks, block_steps, *teacher_logits_NxBxC.shape[1:])
    carry = (to_network(state.params), state._replace(params={}))
    (network, state), _ = jax.lax.scan(advance_block, carry, blocks, length=num_blocks)
    return state._replace(params=to_params(network))


def teach_lane(problem: Problem, block_rows: int, num_steps: int, seed: jax.Array, step: jax.Array, params: Params) -> jax.Array:
    """The teacher's logits `(N, B, C)` on the inputs of the next steps of a lane, a block at a time."""
    data_key = lane_key(problem, seed, "train-data")
    apply = problem.teacher_apply
    assert apply is not None
    block_steps = steps_in_block(problem, block_rows)

    def teach(step: jax.Array) -> jax.Array:
        return apply(params, problem.sample(jax.random.fold_in(data_key, step)).inputs)

    return jax.lax.map(teach, step + jnp.arange(-(-num_steps // block_steps) * block_steps), batch_size=block_steps)


def block_of_steps(
    problem: Problem, network: Network, batch_T: Batch, teacher_logits_TxBxC: jax.Array | None, steps_T: jax.Array, rates_T: jax.Array
) -> tuple[Network, jax.Array]:
    """T steps of SGD in order, and the loss `(T,)` before each of them."""
    num_steps, batch_size = batch_T.labels.shape
    x_RxI = jnp.pad(batch_T.inputs.reshape(num_steps * batch_size, -1), ((0, 0), (0, 1)), constant_values=1.0)
    pre_TxBxM = (x_RxI @ network.w1_IxM).reshape(num_steps, batch_size, -1)
    gram_TxBxR = (x_RxI @ x_RxI.T).reshape(num_steps, batch_size, -1)

    def step(carry: tuple[jax.Array, jax.Array, jax.Array], now: tuple[Any, ...]) -> tuple[tuple[jax.Array, jax.Array, jax.Array], jax.Array]:
        deltas_RxM, w2_CxM, b2_C = carry
        t, pre_BxM, gram_BxR, batch, teacher_logits_BxC, step, rate = now
        pre_BxM = pre_BxM - gram_BxR @ deltas_RxM  # rows from t on are still zero
        h_BxM = jax.nn.relu(pre_BxM)

        def loss_fn(logits_BxC: jax.Array) -> jax.Array:
            taught_BxC = jax.lax.stop_gradient(logits_BxC) if teacher_logits_BxC is None else teacher_logits_BxC
            return masked_mean(problem.loss(logits_BxC, batch.labels, taught_BxC, step), batch.mask)

        loss, grad_BxC = jax.value_and_grad(loss_fn)((w2_CxM @ h_BxM.T).T + b2_C[None])
        scaled_BxC = rate * grad_BxC
        back_BxM = functools.reduce(jnp.add, (scaled_B[:, None] * w2_M[None] for scaled_B, w2_M in zip(scaled_BxC.T, w2_CxM, strict=True)))
        delta_BxM = jnp.where(pre_BxM > 0, back_BxM, 0.0)
        deltas_RxM = jax.lax.dynamic_update_slice_in_dim(deltas_RxM, delta_BxM, t * batch_size, 0)
        return (deltas_RxM, w2_CxM - scaled_BxC.T @ h_BxM, b2_C - jnp.sum(scaled_BxC, axis=0)), loss

    deltas_RxM = jnp.zeros_like(pre_TxBxM).reshape(num_steps * batch_size, -1)
    now_T = (jnp.arange(num_steps), pre_TxBxM, gram_TxBxR, batch_T, teacher_logits_TxBxC, steps_T, rates_T)
    (deltas_RxM, w2_CxM, b2_C), losses_T = jax.lax.scan(step, (deltas_RxM, network.w2_CxM, network.b2_C), now_T, unroll=4)
    return Network(network.w1_IxM - x_RxI.T @ deltas_RxM, w2_CxM, b2_C), losses_T


def count_steps(state: TrainState, losses_T: jax.Array, counted_T: jax.Array) -> TrainState:
    """The counters of a state after the counted ones of T steps, which come first."""
    num_steps = jnp.sum(counted_T, dtype=jnp.int32)
    bad_T = counted_T & ~jnp.isfinite(losses_T)
    first_bad = (state.diverged_at_L == 0) & jnp.any(bad_T)
    return state._replace(
        opt_state=jax.tree.map(lambda count: count + num_steps, state.opt_state),
        step_L=state.step_L + num_steps,
        loss_sum_L=state.loss_sum_L + jnp.sum(jnp.where(counted_T, losses_T, 0.0)),
        loss_count_L=state.loss_count_L + num_steps,
        diverged_at_L=jnp.where(first_bad, state.step_L + 1 + jnp.argmax(bad_T).astype(jnp.int32), state.diverged_at_L),
    )


def momentary_rate(optimizer: optax.GradientTransformation, opt_state: Any, ahead: jax.Array) -> jax.Array:
    """The learning rate of plain SGD some steps ahead: what becomes of a gradient of one."""
    update, _ = optimizer.update(jnp.ones(()), jax.tree.map(lambda count: count + ahead, opt_state))
    return -jnp.asarray(update)


def steps_in_block(problem: Problem, block_rows: int) -> int:
    """How many steps make a block of at most `block_rows` examples."""
    batch = jax.eval_shape(problem.sample, jax.random.key(0))
    return max(1, block_rows // batch.labels.shape[0])


def to_network(params: Params) -> Network:
    """The MLP's parameters as the inner loop wants them."""
    hidden, output = params["hidden"], params["output"]
    return Network(jnp.concatenate([hidden["kernel"], hidden["bias"][None]]), output["kernel"].T, output["bias"])


def to_params(network: Network) -> Params:
    """The inverse of `to_network`."""
    hidden = {"kernel": network.w1_IxM[:-1], "bias": network.w1_IxM[-1]}
    return {"hidden": hidden, "output": {"kernel": network.w2_CxM.T, "bias": network.b2_C}}


def check_applies(problem: Problem) -> None:
    """Raise a ValueError unless the model is the two-layer MLP and the optimiser multiplies the gradient by a rate that only the step decides."""
    params = jax.eval_shape(problem.model.init, jax.random.key(0))
    layer = {"kernel", "bias"}
    if set(params) != {"hidden", "output"} or any(set(params[name]) != layer for name in params):
        raise ValueError("the blocked engine trains a two-layer MLP and no other model; use --engine scan")
    optimizer = problem.make_optimizer(jnp.float32(1.0))
    grads = jax.tree.map(lambda leaf: jnp.full(leaf.shape[-1:], 1e3), params)
    opt_state = optimizer.init(grads)
    plain = optax.sgd(optax.constant_schedule(1.0)).init(grads)
    if jax.tree.structure(opt_state) == jax.tree.structure(plain):
        updates, _ = optimizer.update(grads, jax.tree.map(lambda count: count + 1, opt_state), grads)
        rate = momentary_rate(optimizer, opt_state, jnp.int32(1))
        if all(bool(jnp.all(update == -rate * 1e3)) for update in jax.tree.leaves(updates)):
            return
    raise ValueError("the blocked engine needs plain SGD, without momentum, weight decay or clipping; use --engine scan")


def _each_lane(function: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    def one_after_another(*lanes: Any) -> Any:
        return jax.lax.map(lambda lane: function(*lane), lanes)

    return jax.shard_map(one_after_another, mesh=mesh, in_specs=PartitionSpec(LANE), out_specs=PartitionSpec(LANE))
