"""What training costs on this machine, measured with a few steps of a run's own engine; of those
that would take long, with a part of the examples.

Nothing is written but compiled programs (`common.base.mesh.keep_compiled`), which a run of the same
kind then finds.
"""

import functools
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
from pydantic import Field

from common.base.config import PositiveFloat, PositiveInt, configuration
from common.nn.functional import Batch, Functional, Params
from common.train.chunks import BLOCK
from common.train.engine import Engine, TrainState
from common.train.losses import label_cross_entropy, masked_mean
from common.train.problem import Problem, ProblemSize
from common.train.run import bytes_of_lane
from common.train.speed import product_rate

MOST_SECONDS = 0.25
"""That what is tried may take, by the count of its operations. It takes up to twenty times as long:
the count knows matrix products alone, at the rate of a large one."""
CHUNK_SECONDS = 0.05
"""That one chunk of steps may take by that count, if it is more than one step."""
MOST_OF_MEMORY = 0.1
"""That what is tried may take, of all there is, by the count of what a step keeps for its backward
pass. It takes some times as much."""
TIMED_SECONDS = 0.15
"""For which steps, and evaluations, are repeated at least."""
CALLS, CALLS_SECONDS = 3, 1.5
"""So often are they repeated, too, unless this time is over: the first one finds memory that
belonged to another program, and may take twice as long."""


@configuration
class Measured:
    """What runs of one kind cost. Times are in seconds, sizes in bytes of all lanes."""

    start: Annotated[float, Field(ge=0)]
    """Until its programs are there, if this machine has compiled them before."""
    step: PositiveFloat
    """One update of all lanes."""
    evaluation: PositiveFloat
    memory: PositiveInt
    """The most that the process takes by the compiler's account; where it is scaled, no less than
    what steps keep for their backward pass."""
    checkpoint: PositiveInt
    resume: PositiveInt
    """The state to resume from."""
    is_scaled: bool
    """From steps with a part of the examples, or from those of another kind."""


class Least(NamedTuple):
    """Less than what steps cost."""

    step: float
    evaluation: float
    memory: int


@dataclass(frozen=True)
class Trial:
    """Steps to be tried."""

    problem: Problem
    engine: Callable[[Problem, int], Engine]
    group_size: int
    teacher: Functional | None
    """The teacher's model; None: labels supervise."""
    layer: int | None
    """The hidden layer that is learnt; None: the outputs are."""
    chunk_steps: int
    """Steps from one look of such a run to the next."""

    @functools.cached_property
    def least(self) -> Least:
        """The time of all matrix products, and the memory of what is kept for the backward pass."""
        problem, num_lanes = self.problem, len(self.problem.lanes)
        rate = _product_rate() * jax.local_device_count()
        return Least(
            step=operations(self) / rate,
            evaluation=num_lanes * problem.size.eval_examples * problem.work.flops / 3 / rate,
            memory=num_lanes * (sum(bytes_of_lane(problem)) + _kept_for_backward(problem)),
        )


def measure(trial: Trial) -> Measured:
    """What steps cost.

    Raises:
        JaxRuntimeError: the devices have no room for them now.
    """
    problem, size, num_lanes = trial.problem, trial.problem.size, len(trial.problem.lanes)
    before, least, programs = _process_memory(), trial.least, _AccountedPrograms()
    num_steps = _steps_in_chunk(trial.chunk_steps, least.step)
    tried = _tried(size, num_steps, least)
    step, evaluation, num_devices = _seconds_of(
        replace(trial, problem=replace(problem, size=tried, programs=programs)), num_steps
    )
    checkpoint, resume = bytes_of_lane(problem)
    taken = num_devices * programs.most_bytes
    return Measured(
        start=programs.seconds,
        step=step * size.batch_size / tried.batch_size,
        evaluation=evaluation * size.eval_examples / tried.eval_examples,
        memory=before + (taken if tried == size else max(taken, least.memory)),
        checkpoint=num_lanes * checkpoint,
        resume=num_lanes * resume,
        is_scaled=tried != size,
    )


def scaled(trial: Trial, other: Trial, measured: Measured) -> Measured:
    """What steps cost that have not been tried, in proportion to another kind that has been.

    Args:
        trial: the steps.
        other: those of the other kind.
        measured: what they cost.
    """
    of_these, of_others = trial.least, other.least
    checkpoint, resume = bytes_of_lane(trial.problem)
    num_lanes = len(trial.problem.lanes)
    return Measured(
        start=measured.start,
        step=measured.step * of_these.step / of_others.step,
        evaluation=measured.evaluation * of_these.evaluation / of_others.evaluation,
        memory=max(measured.memory - of_others.memory, 0) + of_these.memory,
        checkpoint=num_lanes * checkpoint,
        resume=num_lanes * resume,
        is_scaled=True,
    )


def operations(trial: Trial) -> float:
    """Of floating point in the matrix products of one step of all lanes."""
    problem = trial.problem
    of_example = problem.work.flops + problem.work.teacher_flops / trial.group_size
    return len(problem.lanes) * problem.size.batch_size * of_example


def machine_memory() -> int:
    """Bytes of the machine's memory; of that of all devices where they are no CPU, as far as they
    tell."""
    if jax.default_backend() == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return sum(of_device.get("bytes_limit", sys.maxsize) for of_device in stats)


def _tried(size: ProblemSize, num_steps: int, least: Least) -> ProblemSize:
    """The size, or a half, a quarter and so on of its examples: what is soon over and small."""
    too_long = (num_steps * least.step + least.evaluation) / MOST_SECONDS
    too_large = least.memory / (MOST_OF_MEMORY * machine_memory())
    parts = 2 ** max(math.ceil(math.log2(max(too_long, too_large))), 0)
    return size._replace(
        batch_size=max(size.batch_size // parts, 1),
        eval_examples=max(size.eval_examples // parts, 1),
    )


def _seconds_of(trial: Trial, num_steps: int) -> tuple[float, float, int]:
    """How long a step and an evaluation take, in chunks of so many steps, and on how many
    devices."""
    problem = trial.problem
    engine = trial.engine(problem, trial.group_size)
    teacher_params = None
    if trial.teacher is not None:
        # Zeros, because to compile an initialisation takes a second, and numbers cost no time.
        one = jax.eval_shape(trial.teacher.init, jax.random.key(0))
        num_groups = len(problem.lanes) // trial.group_size
        teacher_params = engine.place(
            jax.tree.map(lambda leaf: np.zeros((num_groups, *leaf.shape), leaf.dtype), one)
        )

    def advance(state: TrainState) -> TrainState:
        return engine.advance(state, teacher_params, num_steps, trial.layer)

    def evaluate(state: TrainState) -> TrainState:
        return engine.record(state)[0]

    state = evaluate(advance(engine.init()))  # which compiles
    chunk, state = _seconds(advance, state)
    evaluation, state = _seconds(evaluate, state)
    num_devices = len(jax.tree.leaves(state)[0].sharding.device_set)
    return chunk / num_steps, evaluation, num_devices


class _AccountedPrograms(dict[Hashable, Callable[..., Any]]):
    """Programs of a problem, with an account of what it takes to have them."""

    most_bytes = 0
    """Memory that any of them takes on one device, as far as the compiler tells."""
    seconds = 0.0
    """For all that comes before they are compiled."""

    def __setitem__(self, key: Hashable, program: Callable[..., Any]) -> None:
        super().__setitem__(key, functools.partial(self._first_call, key, program))

    def _first_call(self, key: Hashable, program: Any, *args: Any) -> Any:
        began = time.perf_counter()
        lowered = program.lower(*args)
        self.seconds += time.perf_counter() - began
        account = lowered.compile().memory_analysis()
        if account is not None:
            size = account.argument_size_in_bytes + account.output_size_in_bytes
            size += account.temp_size_in_bytes - account.alias_size_in_bytes
            self.most_bytes = max(self.most_bytes, size)
        super().__setitem__(key, program)
        return program(*args)


def _seconds(
    call: Callable[[TrainState], TrainState], state: TrainState
) -> tuple[float, TrainState]:
    """How long the quickest of some calls takes, because others may use the machine meanwhile, and
    the state after the last."""
    seconds: list[float] = []
    while sum(seconds) < (TIMED_SECONDS if len(seconds) >= CALLS else CALLS_SECONDS):
        began = time.perf_counter()
        state = jax.block_until_ready(call(state))
        seconds.append(time.perf_counter() - began)
    return min(seconds), state


def _steps_in_chunk(most: int, seconds: float) -> int:
    """Steps that are made in one chunk; multiples of a block where they are more than that. Not one
    alone where a run makes more: a loop has memory of its own from one step to the next, without
    which a step of a Transformer takes up to three times as long.

    Args:
        most: that a run makes.
        seconds: that one of them takes.
    """
    steps = min(most, max(int(CHUNK_SECONDS / seconds), 2))
    return steps // BLOCK * BLOCK if steps > BLOCK else steps


def _kept_for_backward(problem: Problem) -> int:
    """Bytes that a step of one lane keeps from its forward for its backward pass."""

    def pullback(params: Params, batch: Batch, key: jax.Array) -> Any:
        def loss(params: Params) -> jax.Array:
            logits = problem.model.apply(params, batch.inputs, key)
            return masked_mean(label_cross_entropy(logits, batch.labels), batch.mask)

        return jax.vjp(loss, params)[1]

    key = jax.random.key(0)
    params = jax.eval_shape(problem.model.init, key)
    batch = jax.eval_shape(problem.sample, problem.data(), key)
    kept = jax.tree.leaves(jax.eval_shape(pullback, params, batch, key))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in kept)


@functools.cache
def _product_rate() -> float:
    """Of one device; see `common.train.speed`."""
    return product_rate()


@functools.cache
def _process_memory() -> int:
    """Bytes of this machine's memory that the process has taken when it is asked for the first
    time; other devices than a CPU have memory of their own."""
    if jax.default_backend() != "cpu":
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
