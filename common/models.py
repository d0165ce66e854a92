"""Models (Flax NNX) as pure functions of plain parameter dictionaries, and their PyTorch names."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from flax import nnx

from common.config import PositiveInt, configuration

Params = dict[str, Any]
"""A nested dictionary of arrays; the only form in which parameters leave this module."""


@configuration
class MLPConfig:
    """A two-layer ReLU network."""

    width: PositiveInt
    """Hidden units."""
    init: Literal["torch", "lecun"] = "torch"
    """torch: U(+-1/sqrt(fan_in)) for weights and biases, PyTorch's default. lecun: truncated normal of variance 1/fan_in and zero biases, Flax's."""


class MLP(nnx.Module):
    """d inputs -> width ReLU units -> num_classes logits, with biases (paper section 3)."""

    def __init__(self, config: MLPConfig, d: int, num_classes: int, *, rngs: nnx.Rngs) -> None:
        self.hidden = _linear(d, config.width, config.init, rngs)
        self.output = _linear(config.width, num_classes, config.init, rngs)

    def __call__(self, x_BxD: jax.Array) -> jax.Array:
        return self.output(nnx.relu(self.hidden(x_BxD)))


def _linear(fan_in: int, fan_out: int, init: Literal["torch", "lecun"], rngs: nnx.Rngs) -> nnx.Linear:
    if init == "lecun":
        return nnx.Linear(fan_in, fan_out, rngs=rngs)

    def uniform(key: jax.Array, shape: Any, dtype: Any, *_: Any) -> jax.Array:
        bound = 1 / math.sqrt(fan_in)  # also for the bias, whose own shape does not know the fan-in
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nnx.Linear(fan_in, fan_out, kernel_init=uniform, bias_init=uniform, rngs=rngs)


class Functional(NamedTuple):
    """A model as two pure functions: `init(key) -> params` and `apply(params, inputs) -> logits`."""

    init: Callable[[jax.Array], Params]
    apply: Callable[[Params, jax.Array], jax.Array]


def functional_mlp(config: MLPConfig, d: int, num_classes: int) -> Functional:
    """The MLP as pure functions; `apply` takes `(B, d)` to `(B, num_classes)`."""

    def build(key: jax.Array) -> MLP:
        return MLP(config, d, num_classes, rngs=nnx.Rngs(params=key))

    graph = nnx.graphdef(nnx.eval_shape(lambda: build(jax.random.key(0))))

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(build(key)))

    def apply(params: Params, x_BxD: jax.Array) -> jax.Array:
        return nnx.merge(graph, params)(x_BxD)

    return Functional(init, apply)


def mlp_to_torch(params: Params) -> dict[str, np.ndarray]:
    """The MLP's parameters under the names and in the layouts of `torch.nn.Sequential(Linear, ReLU, Linear)`."""
    layers = {"0": params["hidden"], "2": params["output"]}
    kernels = {f"{name}.weight": np.ascontiguousarray(np.asarray(layer["kernel"]).T) for name, layer in layers.items()}
    return kernels | {f"{name}.bias": np.ascontiguousarray(layer["bias"]) for name, layer in layers.items()}
