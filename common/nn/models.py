"""Models (Flax NNX) as pure functions of plain parameter dictionaries, and their PyTorch names."""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import jax
from flax import nnx

from common.base.config import PositiveInt, configuration
from common.base.size import Size

ModuleT = TypeVar("ModuleT", bound=nnx.Module)
Params = dict[str, Any]
"""A nested dictionary of arrays; the only form in which parameters leave this module."""


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

    def __call__(self, x_BxD: jax.Array) -> jax.Array:
        """Logits `(B, C)`."""
        return self.output(self.activations(x_BxD))

    def activations(self, x_BxD: jax.Array) -> jax.Array:
        """The hidden layer, `(B, M)`."""
        return nnx.relu(self.hidden(x_BxD))


def _linear(
    fan_in: int, fan_out: int, init: Literal["torch", "lecun"], rngs: nnx.Rngs
) -> nnx.Linear:
    if init == "lecun":
        return nnx.Linear(fan_in, fan_out, rngs=rngs)

    def uniform(key: jax.Array, shape: Any, dtype: Any, *_: Any) -> jax.Array:
        bound = 1 / math.sqrt(fan_in)  # also for the bias, whose own shape does not know the fan-in
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nnx.Linear(fan_in, fan_out, kernel_init=uniform, bias_init=uniform, rngs=rngs)


Inputs = Any
"""What a model reads: an array, or a named tuple of arrays (`TokenInputs`), examples first."""


class Apply(Protocol):
    """The forward pass of a model."""

    def __call__(self, params: Params, inputs: Inputs, key: jax.Array | None = None) -> jax.Array:
        """Logits; with a key as in training, where the key draws what is dropped."""
        ...


class Functional(NamedTuple):
    """A model as pure functions."""

    init: Callable[[jax.Array], Params]
    """Key to untrained parameters."""
    apply: Apply
    """Parameters and inputs to logits."""
    hidden: Callable[[Params, Inputs, int], jax.Array]
    """Parameters, inputs and the number of a hidden layer to its activations, hidden units last;
    nothing is dropped."""
    num_layers: int
    """Hidden layers: one of the MLP, the blocks of a Transformer."""


@functools.cache
def functional_mlp(config: MLPConfig, d: int, num_classes: int) -> Functional:
    """The MLP as pure functions; `apply` takes `(B, d)` to `(B, num_classes)`, and drops
    nothing."""
    return functional(
        lambda rngs: MLP(config, d, num_classes, rngs=rngs),
        lambda model, x_BxD, _: model(x_BxD),
        lambda model, x_BxD, _: model.activations(x_BxD),
        num_layers=1,
    )


def functional(
    build: Callable[[nnx.Rngs], ModuleT],
    call: Callable[[ModuleT, Inputs, nnx.Rngs | None], jax.Array],
    activations: Callable[[ModuleT, Inputs, int], jax.Array],
    num_layers: int,
) -> Functional:
    """A module as pure functions.

    Args:
        build: makes it with untrained weights from the stream `params`.
        call: its forward pass; the third argument has the stream `dropout` in training and is None
            in evaluation.
        activations: a hidden layer of it, by number.
        num_layers: how many of those there are.
    """
    graph = nnx.graphdef(nnx.eval_shape(lambda: build(nnx.Rngs(params=jax.random.key(0)))))

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(params=key))))

    def apply(params: Params, inputs: Inputs, key: jax.Array | None = None) -> jax.Array:
        return call(
            nnx.merge(graph, params), inputs, None if key is None else nnx.Rngs(dropout=key)
        )

    def hidden(params: Params, inputs: Inputs, layer: int) -> jax.Array:
        return activations(nnx.merge(graph, params), inputs, layer)

    return Functional(init, apply, hidden, num_layers)
