"""Optimisers and the decay of the learning rate (optax). Both count optimiser updates."""

from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import optax
from pydantic import Field

from common.base.config import Fraction, PositiveFloat, configuration

Beta = Annotated[float, Field(ge=0, lt=1)]
DEFAULT_BETAS = (0.9, 0.999)


@configuration
class OptimConfig:
    """SGD or Adam, with a constant learning rate or a warm-up and a decay."""

    learning_rate: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    """Peak learning rate; several values train side by side as a sweep."""
    decay: Literal["constant", "cosine", "linear"] = "constant"
    """How the learning rate changes. cosine, linear: a linear warm-up from a positive rate at the
    first update to the peak, then a cosine or a line that would reach zero one update after the
    last."""
    warmup_fraction: Fraction = 0.06
    """Part of the updates spent warming up (not with a constant rate)."""
    kind: Literal["sgd", "adam"] = "sgd"
    """sgd: without momentum. adam: epsilon 1e-8 (PyTorch's default)."""
    betas: tuple[Beta, Beta] = DEFAULT_BETAS
    """Part of Adam's averages (of the gradient and of its square) that an update keeps."""
    clip_norm: PositiveFloat | None = None
    """Scale gradients of a larger norm down to this one (Hugging Face's trainer: 1); None:
    never."""
    weight_decay: PositiveFloat | None = None
    """Adam's: an update also takes this times the learning rate of every weight of a matrix, an
    embedding's among them, but of no bias and no normalisation (AdamW, Loshchilov and Hutter 2019;
    BERT: 0.01); None: of nothing."""

    def __post_init__(self) -> None:
        if self.kind == "sgd" and self.betas != DEFAULT_BETAS:
            raise ValueError(
                f"optim.betas = {self.betas} are Adam's; give --optim.kind adam as well"
            )
        if self.kind == "sgd" and self.weight_decay is not None:
            raise ValueError(
                f"optim.weight_decay = {self.weight_decay:g} is Adam's; give --optim.kind adam as"
                " well"
            )


def published_adam(rates: tuple[float, ...], warmup_fraction: float = 0.06) -> OptimConfig:
    """The optimiser of the published runs on sequences: Adam (0.9, 0.95), cosine, and gradients
    clipped at 1, which Hugging Face's trainer does unless told otherwise.

    Args:
        rates: peak learning rates, which are not published.
        warmup_fraction: see `OptimConfig`.
    """
    return OptimConfig(
        rates,
        decay="cosine",
        warmup_fraction=warmup_fraction,
        kind="adam",
        betas=(0.9, 0.95),
        clip_norm=1.0,
    )


def learning_rate_shape(config: OptimConfig, total_steps: int) -> optax.Schedule:
    """The learning rate of an update, divided by the peak, as a function of the updates completed
    before it; in (0, 1].

    With a warm-up of n updates the first has 1 / n and the n-th has 1. The last update of the run
    is one step of the cosine, or of the line, above zero.
    """
    if config.decay == "constant":
        return optax.constant_schedule(1.0)
    warmup_steps = max(round(config.warmup_fraction * total_steps), 1)
    if config.decay == "linear":
        warmup = optax.linear_schedule(1 / warmup_steps, 1.0, warmup_steps - 1)
        line = optax.linear_schedule(1.0, 0.0, total_steps - warmup_steps + 1)
        return optax.join_schedules([warmup, line], [warmup_steps - 1])
    return optax.warmup_cosine_decay_schedule(1 / warmup_steps, 1.0, warmup_steps - 1, total_steps)


def make_optimizer(
    config: OptimConfig, total_steps: int, peak: jax.Array
) -> optax.GradientTransformation:
    """The optimiser of one lane. `peak`, the largest learning rate, may be traced: lanes of a sweep
    share one program."""
    shape = learning_rate_shape(config, total_steps)

    def rate(count: jax.typing.ArrayLike) -> jax.Array:
        return peak * jnp.asarray(shape(count))

    update = _update(config, rate)
    if config.clip_norm is None:
        return update
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)


def _update(config: OptimConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    if config.kind == "sgd":
        return optax.sgd(rate)
    if config.weight_decay is None:
        return optax.adam(rate, *config.betas, eps=1e-8)
    return optax.adamw(
        rate, *config.betas, eps=1e-8, weight_decay=config.weight_decay, mask=_are_matrices
    )


def _are_matrices(params: optax.Params) -> Any:
    """Which weights decay."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)
