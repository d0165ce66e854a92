"""Models of parity: what they read of an input, and where GPT-2 answers.

Shapes: B inputs of I coordinates, which are sequences of T = I tokens out of V; C logits.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from common.nn.blocks import TokenInputs
from common.nn.functional import Functional, functional
from common.nn.gpt2 import GPT2, GPT2Config
from common.nn.mlp import MLPConfig, functional_mlp
from parity.data import ParityData

VOCABULARY = 2
"""Tokens of a Transformer: 0 stands for the coordinate +1, 1 for -1."""
FEW_TOKENS = 4
"""A batch is large if it has so many times as many sequences as there are tokens: then most (token,
position) pairs occur in several of them."""


def model_of(data: ParityData, model: MLPConfig | GPT2Config) -> Functional:
    """A model on these data; `apply` takes inputs `(B, d)` in {-1,+1} to logits `(B, 2^depth)`.

    A Transformer reads x as tokens (1 - x) / 2 and answers at the last position (paper section 3).
    """
    if isinstance(model, MLPConfig):
        return functional_mlp(model, data.d, data.num_classes)
    return _functional_gpt2(model, data.d, data.num_classes)


@functools.cache
def _functional_gpt2(config: GPT2Config, d: int, num_classes: int) -> Functional:
    return functional(
        lambda rngs: GPT2(config, VOCABULARY, d, num_classes, rngs=rngs),
        lambda model, x_BxI, rngs: answer(model, tokens_of(x_BxI), rngs),
        lambda model, x_BxI, layer: model.activations(TokenInputs(tokens_of(x_BxI)), layer),
        config.layers,
    )


def tokens_of(x_BxI: jax.Array) -> jax.Array:
    """Coordinates in {-1,+1} as tokens, `(B, T)`."""
    return (x_BxI < 0).astype(jnp.int32)


def answer(model: GPT2, tokens_BxT: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
    """Logits `(B, C)` of the last position, by the shorter of two ways; `rngs` has the stream
    `dropout` in training and is None in evaluation."""
    if few_pairs_do(model, len(tokens_BxT), rngs):
        return last_of_one_block(model, tokens_BxT)
    batch, length = tokens_BxT.shape
    last_Bx1 = jnp.full((batch, 1), length - 1)
    return model(TokenInputs(tokens_BxT, at_BxP=last_Bx1), rngs=rngs)[:, 0]


def few_pairs_do(model: GPT2, batch_size: int, rngs: nnx.Rngs | None) -> bool:
    """Whether `last_of_one_block` applies, and has fewer keys and values to compute than there are
    tokens in the batch."""
    is_large = batch_size >= FEW_TOKENS * model.token.num_embeddings
    drops = model.drop.rate > 0 and rngs is not None
    return len(model.blocks) == 1 and is_large and not drops


def last_of_one_block(model: GPT2, tokens_BxT: jax.Array) -> jax.Array:
    """Logits `(B, C)` of the last position of a model of one block, from far fewer keys and values
    than there are tokens in the batch; nothing is dropped.

    What a position shows to the others depends on its token and its place alone. So the V x T pairs
    of these, N of them, are attended to, once for all: the last positions of the B sequences are
    the queries of one sequence, and a mask tells which pairs occur in whose. A last position sees
    all of its sequence, so that the mask is causal too.
    """
    vocabulary, length = model.token.num_embeddings, tokens_BxT.shape[1]
    pairs_VxT = jnp.broadcast_to(jnp.arange(vocabulary)[:, None], (vocabulary, length))
    x_VxTxM = model.embed(pairs_VxT)
    x_1xNxM = x_VxTxM.reshape(1, vocabulary * length, -1)
    queries_1xBxM = x_VxTxM[:, -1][tokens_BxT[:, -1]][None]
    occurs_BxVxT = tokens_BxT[:, None] == pairs_VxT[None]
    mask_1x1xBxN = occurs_BxVxT.reshape(1, 1, -1, vocabulary * length)
    y_1xBxM = model.blocks["0"].of_queries(queries_1xBxM, x_1xNxM, mask_1x1xBxN)
    return model.logits(y_1xBxM)[0]
