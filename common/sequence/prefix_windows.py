"""What a causal model takes from the last n tokens of a prefix. There is no MASK, so tokens are
removed: no position of any layer may attend to them, while all others keep their places.

    close(n): only the last n tokens are left, and BOS. Small where the model needs no more of a
    prefix. robust(n): of the last n tokens only the last is left. Small where the model does
    without its neighbours.

Each is the total variation between the model's distribution of the next token and that from the
whole prefix. Both are the causal counterparts of M_close and M_robust (`common.sequence.ngram`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common.base.errors import UserError
from common.nn.blocks import TokenInputs
from common.nn.functional import Params
from common.sequence.ngram import total_variation


class Prefixes(NamedTuple):
    """Prefixes of sentences, P of them, each of at least as many tokens as the largest n."""

    tokens_PxT: jax.Array
    """The whole sentence, BOS first: no causal model sees what comes after the prefix."""
    position_P: jax.Array
    """Of the prefix's last token."""
    sentence_P: np.ndarray
    """Number of the sentence, for a bootstrap over sentences."""


def prefixes_of(
    tokens_BxT: jax.Array,
    asked_BxT: jax.Array,
    sizes: Sequence[int],
    spacing: int,
    *,
    by_position: bool,
) -> Prefixes:
    """Prefixes behind which a model is asked for the next token, and in which all windows fit.

    Args:
        tokens_BxT: sentences, BOS first.
        asked_BxT: which of the tokens are predicted.
        sizes: every n.
        spacing: of prefixes in a sentence, which are those that end at a multiple of it, or
            without `by_position` every so many of those there are, from the shortest on.
        by_position: whether `spacing` counts tokens.

    Raises:
        UserError: there are no such prefixes.
    """
    asked = np.asarray(asked_BxT)
    largest = max(sizes)
    # Behind a prefix that ends at a position comes the token at the next.
    fits_BxT = np.pad(asked[:, 1:], ((0, 0), (0, 1)))
    fits_BxT[:, :largest] = False
    if not fits_BxT.any():
        raise UserError(
            f"a window of {largest} tokens fits before no predicted token of any of the"
            f" {len(asked)} sentences; give smaller --sizes"
        )
    if by_position:
        fits_BxT &= np.arange(asked.shape[1])[None] % spacing == 0
    else:
        fits_BxT &= np.cumsum(fits_BxT, axis=1) % spacing == 1 % spacing
    sentence_P, position_P = np.nonzero(fits_BxT)
    if not len(sentence_P):
        raise UserError(
            f"every {spacing} tokens no prefix of any sentence has the {largest} tokens of the"
            " largest window and a predicted token behind it; give a smaller --spacing, or smaller"
            " --sizes"
        )
    return Prefixes(jnp.asarray(tokens_BxT)[sentence_P], jnp.asarray(position_P), sentence_P)


def left_for_robust(position_P: jax.Array, length: int, n: int) -> jax.Array:
    """Which of `length` positions are left for robust(n), `(P, length)`: all but the n - 1 before
    the last token of the prefix, which is at `position_P`; BOS always."""
    offset_PxT = _offset(position_P, length)
    return _is_bos(length) | (offset_PxT <= -n) | (offset_PxT == 0)


def left_for_close(position_P: jax.Array, length: int, n: int) -> jax.Array:
    """Which of `length` positions are left for close(n), `(P, length)`: the last n tokens of the
    prefix, and BOS."""
    offset_PxT = _offset(position_P, length)
    return _is_bos(length) | ((offset_PxT > -n) & (offset_PxT <= 0))


def probe(
    apply: Callable[[Params, TokenInputs], jax.Array],
    params: Params,
    tokens_PxT: jax.Array,
    position_P: jax.Array,
    sizes: Sequence[int],
) -> jax.Array:
    """robust(n) and close(n) of every n, `(2, Z, P)` for Z sizes.

    Args:
        apply: a causal model; parameters and `TokenInputs` to logits `(P, 1, V)`.
        params: of one lane.
        tokens_PxT: a sentence for each prefix, BOS first.
        position_P: of the prefix's last token.
        sizes: every n.
    """

    def distribution(left_PxT: jax.Array) -> jax.Array:
        logits_Px1xV = apply(params, TokenInputs(tokens_PxT, left_PxT, position_P[:, None]))
        return jax.nn.softmax(logits_Px1xV[:, 0])

    # One forward pass after the other, N in all: of the whole prefix, and of each n for both.
    length = tokens_PxT.shape[1]
    robust = [left_for_robust(position_P, length, n) for n in sizes]
    close = [left_for_close(position_P, length, n) for n in sizes]
    everything_PxT = jnp.ones_like(tokens_PxT, bool)
    p_NxPxV = jax.lax.map(distribution, jnp.stack([everything_PxT, *robust, *close]))
    return total_variation(p_NxPxV[1:], p_NxPxV[:1]).reshape(2, len(sizes), -1)


def _offset(position_P: jax.Array, length: int) -> jax.Array:
    return jnp.arange(length)[None] - position_P[:, None]


def _is_bos(length: int) -> jax.Array:
    return jnp.arange(length)[None] == 0
