"""How fast a run was: tokens and floating-point operations a second, and the share of what the
device can do."""

import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp

SIDE_ON_CPU, SIDE = 1024, 8192
"""Sides of the square matrices whose product tells what a device can do."""


@dataclass(frozen=True)
class Work:
    """What one training example costs."""

    tokens: int
    """Positions in it, padding included."""
    flops: float
    """Floating-point operations of its matrix products, forward and backward through the model."""
    teacher_flops: float = 0.0
    """Operations of its products forward through the teacher, which answers for the example or
    generates it."""


def training_work(of_model: float, of_teacher: float, tokens: int) -> Work:
    """The work of one training example, from the operations of one forward pass of model and
    teacher. A backward pass, which only the model has, costs two forward ones."""
    return Work(tokens, 3 * of_model, of_teacher)


def describe(
    work: Work, examples: int, seconds: float, num_devices: int, group_size: int = 1
) -> dict[str, float]:
    """The speed of a run: tokens a second, operations a second, and their share of the rate that a
    large matrix product reaches on these devices now (model FLOP utilisation). Start-up,
    compilation and evaluation are included.

    Args:
        work: what an example costs.
        examples: examples of all lanes together.
        seconds: the time they took.
        num_devices: devices over which the lanes were spread.
        group_size: lanes that see the same examples and share their teacher's answers.
    """
    rate = (work.flops + work.teacher_flops / group_size) * examples / seconds
    return {
        "tokens_per_second": work.tokens * examples / seconds,
        "flops_per_second": rate,
        "utilisation": rate / (num_devices * product_rate()),
    }


def product_rate() -> float:
    """Operations a second of a large matrix product on one device, in the type in which models
    compute there; the best of three."""
    on_cpu = jax.default_backend() == "cpu"
    side = SIDE_ON_CPU if on_cpu else SIDE
    matrix = jnp.ones((side, side), jnp.float32 if on_cpu else jnp.bfloat16)
    multiply = jax.jit(lambda a: a @ a)
    jax.block_until_ready(multiply(matrix))
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        jax.block_until_ready(multiply(matrix))
        seconds.append(time.perf_counter() - began)
    return 2.0 * side**3 / min(seconds)
