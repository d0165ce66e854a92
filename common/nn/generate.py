"""Sequences sampled from GPT-2, one token after the other.

The keys and values of a position are computed once and kept for all that come after it, so that a
sequence costs about one forward pass.

Shapes: B sequences of T tokens after the first, each one of A allowed ids; V logits; layers of
width M = H heads x K.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from common.nn.attention import UNSEEN
from common.nn.blocks import embed
from common.nn.functional import Params, module_of
from common.nn.gpt2 import GPT2, GPT2Block, GPT2Config

Sequences = Callable[[Params, jax.Array, int], jax.Array]
"""(parameters, key, number of sequences) to tokens."""


class Sampling(NamedTuple):
    """What is drawn."""

    first: int
    """The token before every sequence."""
    end: int
    """The token that ends one."""
    pad: int
    """What follows the end."""
    allowed: tuple[int, ...]
    """The ids that are drawn from, `end` among them; the others' share is given to these."""
    length: int
    """The most tokens that are drawn, the end among them; the model has a position for each."""


class Cache(NamedTuple):
    """What a block has computed at the positions that were read. With the head before the position
    it is multiplied as it lies: on a CPU that takes half the time of the other order."""

    keys_BxHxTxK: jax.Array
    values_BxHxTxK: jax.Array


@functools.cache
def gpt2_generator(
    config: GPT2Config, vocabulary: int, positions: int, sampling: Sampling
) -> Sequences:
    """GPT-2 over token ids as a source of sequences: see `sample`.

    Args:
        config: the model.
        vocabulary: ids that it reads and predicts.
        positions: the longest sequence that it reads.
        sampling: what is drawn.
    """
    module = module_of(lambda rngs: GPT2(config, vocabulary, positions, vocabulary, rngs=rngs))

    def generate(params: Params, key: jax.Array, num_sequences: int) -> jax.Array:
        return sample(module(params), key, num_sequences, sampling)

    return generate


def sample(model: GPT2, key: jax.Array, num_sequences: int, sampling: Sampling) -> jax.Array:
    """Draw sequences, each token by the model's probabilities after those before it; `(B, T + 1)`
    with `sampling.first` in front and padding after the end. Nothing is dropped.

    Sequence i is a function of fold_in(key, i), as the sentences of a grammar are.
    """
    allowed_A = jnp.asarray(sampling.allowed)
    noise_TxBxA = _noise(key, num_sequences, sampling)

    def draw(
        carry: tuple[jax.Array, list[Cache]], now: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, list[Cache]], jax.Array]:
        (last_B, caches), (position, noise_BxA) = carry, now
        logits_BxV, caches = step(model, last_B, position, caches)
        # The largest sum of a logit and Gumbel noise is distributed by the softmax of the logits.
        drawn_B = allowed_A[jnp.argmax(logits_BxV[:, allowed_A] + noise_BxA, axis=1)]
        has_ended_B = (last_B == sampling.end) | (last_B == sampling.pad)
        next_B = jnp.where(has_ended_B, sampling.pad, drawn_B)
        return (next_B, caches), next_B

    # Made like the noise, so that shard_map knows that they vary over lanes.
    first_B = jnp.full_like(noise_TxBxA, sampling.first, jnp.int32, (num_sequences,))
    caches = [
        empty_cache(block, noise_TxBxA, num_sequences, sampling.length) for block in _blocks(model)
    ]
    now = jnp.arange(sampling.length), noise_TxBxA
    _, tokens_TxB = jax.lax.scan(draw, (first_B, caches), now)
    return jnp.concatenate([first_B[None], tokens_TxB]).T


def step(
    model: GPT2, tokens_B: jax.Array, position: int | jax.Array, caches: list[Cache]
) -> tuple[jax.Array, list[Cache]]:
    """Read one more token of each sequence.

    Args:
        model: reads.
        tokens_B: what it reads.
        position: where they stand, from 0.
        caches: of each block, filled up to that position.

    Returns:
        Logits of the next token `(B, V)`, and the caches with this position filled in.
    """
    x_Bx1xM = embed(model.token, model.position, tokens_B[:, None], model.dtype, position)
    filled = []
    for block, cache in zip(_blocks(model), caches, strict=True):
        gathered_Bx1xM, cache_now = _attend(block, x_Bx1xM, position, cache)
        x_Bx1xM = block.add(x_Bx1xM, gathered_Bx1xM, rngs=None)
        filled.append(cache_now)
    return model.logits(x_Bx1xM)[:, 0], filled


def empty_cache(block: GPT2Block, like: jax.Array, num_sequences: int, length: int) -> Cache:
    """Zeros for so many positions, which vary over what `like` does."""
    config = block.config
    shape = num_sequences, config.heads, length, config.head_size
    zeros_BxHxTxK = jnp.zeros_like(like, config.activation_dtype, shape)
    return Cache(zeros_BxHxTxK, zeros_BxHxTxK)


def _blocks(model: GPT2) -> list[GPT2Block]:
    return [model.blocks[str(i)] for i in range(len(model.blocks))]


def _noise(key: jax.Array, num_sequences: int, sampling: Sampling) -> jax.Array:
    """Gumbel noise `(T, B, A)`, of each sequence from a key of its own."""

    def of_sequence(index: jax.Array) -> jax.Array:
        shape = sampling.length, len(sampling.allowed)
        return jax.random.gumbel(jax.random.fold_in(key, index), shape)

    return jax.vmap(of_sequence, out_axes=1)(jnp.arange(num_sequences, dtype=jnp.uint32))


def _attend(
    block: GPT2Block, x_Bx1xM: jax.Array, position: int | jax.Array, cache: Cache
) -> tuple[jax.Array, Cache]:
    """What the last position gathers from itself and from those before it, `(B, 1, M)`, and the
    cache with its own keys and values."""
    batch, _, width = x_Bx1xM.shape
    q_k_v_Bx1x3M = block.query_key_value(block.norm_attention(x_Bx1xM))
    q_BxHx1xK, k_BxHx1xK, v_BxHx1xK = (
        part_Bx1xM.reshape(batch, block.config.heads, 1, block.config.head_size)
        for part_Bx1xM in jnp.split(q_k_v_Bx1x3M, 3, axis=2)
    )
    write = functools.partial(jax.lax.dynamic_update_slice_in_dim, start_index=position, axis=2)
    cache = Cache(
        write(cache.keys_BxHxTxK, k_BxHx1xK),
        write(cache.values_BxHxTxK, v_BxHx1xK),
    )
    scores_BxHx1xT = jnp.einsum(
        "bhqk,bhtk->bhqt", q_BxHx1xK, cache.keys_BxHxTxK, preferred_element_type=jnp.float32
    ) / math.sqrt(block.config.head_size)
    is_read_T = jnp.arange(scores_BxHx1xT.shape[3]) <= position
    scores_BxHx1xT = jnp.where(is_read_T[None, None, None], scores_BxHx1xT, UNSEEN)
    weights_BxHx1xT = jax.nn.softmax(scores_BxHx1xT).astype(v_BxHx1xK.dtype)
    y_BxHx1xK = jnp.einsum("bhqt,bhtk->bhqk", weights_BxHx1xT, cache.values_BxHxTxK)
    return block.attention_output(y_BxHx1xK.reshape(batch, 1, width)), cache
