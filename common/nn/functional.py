"""Models (Flax NNX) as pure functions of plain parameter dictionaries, and what they learn from."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
from flax import nnx

ModuleT = TypeVar("ModuleT", bound=nnx.Module)
Params = dict[str, Any]
"""A nested dictionary of arrays; the only form in which parameters leave this module."""
Inputs = Any
"""What a model reads: an array, or a named tuple of arrays (`TokenInputs`), examples first."""


class Batch(NamedTuple):
    """Inputs, labels, and the mask of supervised positions (same shape as the labels)."""

    inputs: Inputs
    labels: jax.Array
    mask: jax.Array


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


def module_of(build: Callable[[nnx.Rngs], ModuleT]) -> Callable[[Params], ModuleT]:
    """What makes a module of parameters.

    Args:
        build: makes it with untrained weights from the stream `params`.
    """
    graph = nnx.graphdef(nnx.eval_shape(lambda: build(nnx.Rngs(params=jax.random.key(0)))))
    return lambda params: nnx.merge(graph, params)


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
    module = module_of(build)

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(params=key))))

    def apply(params: Params, inputs: Inputs, key: jax.Array | None = None) -> jax.Array:
        return call(module(params), inputs, None if key is None else nnx.Rngs(dropout=key))

    def hidden(params: Params, inputs: Inputs, layer: int) -> jax.Array:
        return activations(module(params), inputs, layer)

    return Functional(init, apply, hidden, num_layers)
