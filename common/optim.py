"""Optimisers and learning-rate schedules (optax), counted in optimiser updates and in nothing else."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import optax
from pydantic import Field

from common.config import Fraction, PositiveFloat, configuration


@configuration
class OptimConfig:
    """SGD with a constant or a warm-up and cosine learning rate."""

    learning_rate: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    """Peak learning rate; several values train side by side as a sweep."""
    schedule: Literal["constant", "cosine"] = "constant"
    """constant, or linear warm-up to the peak followed by cosine decay to zero at the last step."""
    warmup_fraction: Fraction = 0.06
    """Part of the run spent warming up (cosine only)."""


def learning_rate_shape(config: OptimConfig, total_steps: int) -> optax.Schedule:
    """The learning rate over its peak, in [0, 1], as a function of the number of completed updates."""
    if config.schedule == "constant":
        return optax.constant_schedule(1.0)
    warmup_steps = round(config.warmup_fraction * total_steps)
    return optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps, max(total_steps, warmup_steps + 1))


def make_optimizer(config: OptimConfig, total_steps: int, peak: jax.Array) -> optax.GradientTransformation:
    """The optimiser of one lane; `peak` may be traced, so that lanes of a sweep share one program."""
    shape = learning_rate_shape(config, total_steps)
    return optax.sgd(lambda count: peak * jnp.asarray(shape(count)))
