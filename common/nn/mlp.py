"""The two-layer ReLU network of the parity experiments (paper section 3).

Shapes: B examples of I inputs; M hidden units; C logits.
"""

import functools
import math
from typing import Any, Literal

import jax
from flax import nnx

from common.base.config import PositiveInt, configuration
from common.base.size import Size
from common.nn.functional import Functional, functional


@configuration
class MLPConfig:
    """A two-layer ReLU network."""

    width: PositiveInt
    """Hidden units."""
    init: Literal["torch", "lecun"] = "torch"
    """torch: U(+-1/sqrt(fan_in)) for weights and biases, PyTorch's default. lecun: truncated normal
    of variance 1/fan_in and zero biases, Flax's."""

    @property
    def size(self) -> Size:
        """What is varied from model to model."""
        return Size("width", self.width)


class MLP(nnx.Module):
    """d inputs -> width ReLU units -> num_classes logits, with biases (paper section 3)."""

    def __init__(self, config: MLPConfig, d: int, num_classes: int, *, rngs: nnx.Rngs) -> None:
        self.hidden = _linear(d, config.width, config.init, rngs)
        self.output = _linear(config.width, num_classes, config.init, rngs)

    def __call__(self, x_BxI: jax.Array) -> jax.Array:
        """Logits `(B, C)`."""
        return self.output(self.activations(x_BxI))

    def activations(self, x_BxI: jax.Array) -> jax.Array:
        """The hidden layer, `(B, M)`."""
        return nnx.relu(self.hidden(x_BxI))


def _linear(
    fan_in: int, fan_out: int, init: Literal["torch", "lecun"], rngs: nnx.Rngs
) -> nnx.Linear:
    if init == "lecun":
        return nnx.Linear(fan_in, fan_out, rngs=rngs)

    def uniform(key: jax.Array, shape: Any, dtype: Any, *_: Any) -> jax.Array:
        bound = 1 / math.sqrt(fan_in)  # also for the bias, whose own shape does not know the fan-in
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nnx.Linear(fan_in, fan_out, kernel_init=uniform, bias_init=uniform, rngs=rngs)


@functools.cache
def functional_mlp(config: MLPConfig, d: int, num_classes: int) -> Functional:
    """The MLP as pure functions; `apply` takes `(B, d)` to `(B, num_classes)`, and drops
    nothing."""
    return functional(
        lambda rngs: MLP(config, d, num_classes, rngs=rngs),
        lambda model, x_BxI, _: model(x_BxI),
        lambda model, x_BxI, _: model.activations(x_BxI),
        num_layers=1,
    )


def mlp_flops(config: MLPConfig, num_inputs: int, num_outputs: int) -> float:
    """Operations of the products in one forward pass of one example, a multiplication and an
    addition counted as two."""
    return 2.0 * config.width * (num_inputs + num_outputs)
