"""How fast a run was: examples, tokens and floating-point operations a second, and the latter
beside what the device can do."""

import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp

SIDE_ON_CPU, SIDE = 1024, 8192
"""Of the matrices whose product tells what a device can do."""


@dataclass(frozen=True)
class Work:
    """What one training example costs."""

    tokens: int
    """Positions in it, padding included."""
    flops: float
    """Floating-point operations of its products, forward and backward through the model."""
    teacher_flops: float = 0.0
    """The same, forward through the teacher."""


def training_work(of_model: float, of_teacher: float, tokens: int) -> Work:
    """A training example, from the operations of one forward pass each: the backward pass costs two
    of them, and the teacher has none."""
    return Work(tokens, 3 * of_model, of_teacher)


def describe(
    work: Work, examples: int, seconds: float, num_devices: int, group_size: int = 1
) -> dict[str, float]:
    """What a run made of its devices, start-up, compilation and evaluation included: tokens a
    second, operations a second, and their share of what a large product of matrices reaches on
    these devices now (model FLOP utilisation).

    Args:
        work: what an example costs.
        examples: of all lanes together.
        seconds: how long they took.
        num_devices: over which the lanes were spread.
        group_size: lanes that see the same examples, about which their teacher is asked once.
    """
    rate = (work.flops + work.teacher_flops / group_size) * examples / seconds
    return {
        "tokens_per_second": work.tokens * examples / seconds,
        "flops_per_second": rate,
        "utilisation": rate / (num_devices * product_rate()),
    }


def product_rate() -> float:
    """Operations a second of a large product of matrices on one device, in the type in which models
    compute there; the best of three."""
    side, dtype = (
        (SIDE_ON_CPU, jnp.float32) if jax.default_backend() == "cpu" else (SIDE, jnp.bfloat16)
    )
    matrix = jnp.ones((side, side), dtype)
    multiply = jax.jit(lambda a: a @ a)
    jax.block_until_ready(multiply(matrix))
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        jax.block_until_ready(multiply(matrix))
        seconds.append(time.perf_counter() - began)
    return 2.0 * side**3 / min(seconds)
