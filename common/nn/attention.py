"""Attention of queries to keys and values, with dropout and in bounded memory.

Shapes: B sequences, Q queries, keys at T positions, H heads of size K. A query that may see nothing
gathers nothing: zeros, by whatever path, with gradients of zero.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

MAX_WEIGHTS = 2**26
"""Attention weights of one layer that are held at one time for each lane; beyond that the sequences
of a batch are attended to slice by slice."""

UNSEEN = -0.5 * float(np.finfo(np.float32).max)
"""Score of a key that may not be seen, whose weight is zero beside any other's. Not -inf: the
softmax of nothing but -inf is no number."""
Drop = tuple[nnx.Dropout, nnx.Rngs]
"""What sets weights to zero, and its stream `dropout`."""


def gather_in_slices(
    q_BxQxHxK: jax.Array,
    k_BxTxHxK: jax.Array,
    v_BxTxHxK: jax.Array,
    mask_Bx1xQxT: jax.Array | None,
    is_causal: bool,
    drop: Drop | None,
) -> jax.Array:
    """`gather`, with no more attention weights in memory than `MAX_WEIGHTS` allows, or those of one
    sequence."""
    batch, num_queries, heads, _ = q_BxQxHxK.shape
    slice_size = max(1, MAX_WEIGHTS // (num_queries * k_BxTxHxK.shape[1] * heads))
    if slice_size >= batch:
        return gather(q_BxQxHxK, k_BxTxHxK, v_BxTxHxK, mask_Bx1xQxT, is_causal, drop)
    keys_B = None if drop is None else jax.random.split(drop[1].dropout(), batch)

    # The weights are computed again for the gradient: kept, those of all slices would be in memory.
    @jax.checkpoint
    def of_sequence(
        parts: tuple[jax.Array, jax.Array, jax.Array, jax.Array | None, jax.Array | None],
    ) -> jax.Array:
        q_QxHxK, k_TxHxK, v_TxHxK, mask_1xQxT, key = parts
        mask_1x1xQxT = None if mask_1xQxT is None else mask_1xQxT[None]
        own_drop = None if drop is None or key is None else (drop[0], nnx.Rngs(dropout=key))
        return gather(
            q_QxHxK[None], k_TxHxK[None], v_TxHxK[None], mask_1x1xQxT, is_causal, own_drop
        )[0]

    return jax.lax.map(
        of_sequence, (q_BxQxHxK, k_BxTxHxK, v_BxTxHxK, mask_Bx1xQxT, keys_B), batch_size=slice_size
    )


def gather(
    q_BxQxHxK: jax.Array,
    k_BxTxHxK: jax.Array,
    v_BxTxHxK: jax.Array,
    mask_Bx1xQxT: jax.Array | None,
    is_causal: bool,
    drop: Drop | None,
) -> jax.Array:
    """The values that each query attends to."""
    if drop is None:
        y_BxQxHxK = jax.nn.dot_product_attention(
            q_BxQxHxK, k_BxTxHxK, v_BxTxHxK, mask=mask_Bx1xQxT, is_causal=is_causal
        )
    else:
        y_BxQxHxK = _gather_and_drop(q_BxQxHxK, k_BxTxHxK, v_BxTxHxK, mask_Bx1xQxT, is_causal, drop)
    if mask_Bx1xQxT is None:
        return y_BxQxHxK
    seen_Bx1xQxT = (
        mask_Bx1xQxT & _causal(y_BxQxHxK.shape[1], k_BxTxHxK.shape[1])
        if is_causal
        else mask_Bx1xQxT
    )
    sees_any_BxQx1x1 = jnp.any(seen_Bx1xQxT, axis=-1)[:, 0, :, None, None]
    return jnp.where(sees_any_BxQx1x1, y_BxQxHxK, 0)


def _gather_and_drop(
    q_BxQxHxK: jax.Array,
    k_BxTxHxK: jax.Array,
    v_BxTxHxK: jax.Array,
    mask_Bx1xQxT: jax.Array | None,
    is_causal: bool,
    drop: Drop,
) -> jax.Array:
    """What the library's attention computes, written out, because that cannot drop any of its
    weights."""
    scores_BxHxQxT = jnp.einsum(
        "bqhk,bthk->bhqt", q_BxQxHxK, k_BxTxHxK, preferred_element_type=jnp.float32
    ) / math.sqrt(q_BxQxHxK.shape[-1])
    if is_causal:
        scores_BxHxQxT = jnp.where(_causal(*scores_BxHxQxT.shape[2:]), scores_BxHxQxT, UNSEEN)
    if mask_Bx1xQxT is not None:
        scores_BxHxQxT = jnp.where(mask_Bx1xQxT, scores_BxHxQxT, UNSEEN)
    dropout, rngs = drop
    weights_BxHxQxT = dropout(jax.nn.softmax(scores_BxHxQxT), rngs=rngs).astype(v_BxTxHxK.dtype)
    return jnp.einsum("bhqt,bthk->bqhk", weights_BxHxQxT, v_BxTxHxK)


def _causal(num_queries: int, num_keys: int) -> jax.Array:
    """Which keys come no later than each query, `(1, 1, Q, T)`."""
    return jnp.tril(jnp.ones((num_queries, num_keys), bool))[None, None]
