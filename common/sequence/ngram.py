"""What a masked model takes from the n tokens around a position: M_robust and M_close (paper
section 4; published code ngram_prediction.py).

Both compare the model's distribution at a position p, with p alone masked, to the one it gives when
more is hidden:

    M_robust(n): the whole window of n tokens around p is masked. Small where the model does without
    its neighbours. M_close(n): everything outside the window is masked. Small where the model needs
    nothing but its neighbours.

Or p stays visible in all of them (`Target`): then both are small, too, where the model copies the
token at p.

The distance is the total variation, half of the L1 norm that the published code reports.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common.base.errors import UserError
from common.nn.blocks import TokenInputs
from common.nn.functional import Params

Target = Literal["masked", "visible"]
"""Whether the model sees the token at the position that it is asked about."""


class Pairs(NamedTuple):
    """Positions in sentences, P of them; every window that will be asked for lies among the words
    of its sentence."""

    tokens_PxT: jax.Array
    words_PxT: jax.Array
    """Which tokens are words: what may be masked."""
    visible_PxT: jax.Array
    """Which may be attended to: all but padding."""
    position_P: jax.Array
    sentence_P: np.ndarray
    """Number of the sentence, or of the document that it is a piece of, for a bootstrap over those:
    pairs of one are not independent."""


def window(n: int) -> tuple[int, int]:
    """First and last offset of the window of n tokens from its position: an even one has its longer
    half before it (2: p-1..p; 3: p-1..p+1)."""
    return -(n // 2), (n - 1) // 2


def pairs_of(
    tokens_BxT: jax.Array,
    words_BxT: jax.Array,
    pad_id: int,
    positions: Sequence[int],
    sizes: Sequence[int],
) -> Pairs:
    """Every position of every sentence at which all windows fit.

    Args:
        tokens_BxT: sentences.
        words_BxT: which of the tokens are words; a window holds nothing else.
        pad_id: of the tokens that may not be attended to.
        positions: indices into a sentence, whose BOS is at 0 (paper: 30, 60, ..., 420).
        sizes: n of every window.

    Raises:
        UserError: a position outside of the sentences, a window that is wider than all of them, or
            no pair at all.
    """
    words = np.asarray(words_BxT)
    length = words.shape[1]
    if outside := [position for position in positions if not 0 <= position < length]:
        raise UserError(
            f"position {outside[0]} lies outside of the sentences, which have positions 0 to"
            f" {length - 1}, BOS and EOS among them"
        )
    if max(sizes) > words.sum(1).max():
        raise UserError(
            f"a window of {max(sizes)} tokens is wider than the longest sentence,"
            f" {words.sum(1).max()} words"
        )
    low, high = (min(window(n)[0] for n in sizes), max(window(n)[1] for n in sizes))

    def fits_B(position: int) -> np.ndarray:
        first, last = position + low, position + high
        is_inside = first >= 0 and last < length
        return (
            np.all(words[:, first : last + 1], axis=1) if is_inside else np.zeros(len(words), bool)
        )

    sentence_P, which_P = np.nonzero(np.stack([fits_B(position) for position in positions], axis=1))
    if not len(sentence_P):
        raise UserError(
            f"no sentence has a window of {max(sizes)} words around any of the positions"
            f" {', '.join(map(str, positions))}"
        )
    # By NumPy, because JAX would compile each of these for this number of pairs.
    tokens_PxT = np.asarray(tokens_BxT)[sentence_P]
    return Pairs(
        jnp.asarray(tokens_PxT),
        jnp.asarray(words[sentence_P]),
        jnp.asarray(tokens_PxT != pad_id),
        jnp.asarray(np.asarray(positions)[which_P]),
        sentence_P,
    )


def in_window(position_P: jax.Array, length: int, n: int) -> jax.Array:
    """Which of `length` positions the window of n tokens covers, `(P, length)`."""
    first, last = window(n)
    offset_PxT = jnp.arange(length)[None, :] - position_P[:, None]
    return (offset_PxT >= first) & (offset_PxT <= last)


def total_variation(p_xC: jax.Array, q_xC: jax.Array) -> jax.Array:
    """Half the L1 norm of the difference of two distributions, in [0, 1]; `(..., C)` twice to
    `(...)`."""
    return jnp.sum(jnp.abs(p_xC - q_xC), axis=-1) / 2


def probe(
    apply: Callable[[Params, TokenInputs], jax.Array],
    params: Params,
    pairs: Pairs,
    sizes: Sequence[int],
    mask_id: int,
    *,
    hide_masked: bool,
    target: Target = "masked",
) -> jax.Array:
    """M_robust and M_close of every pair and window in total variation, `(2, Z, P)` for Z
    windows.

    Args:
        apply: the forward pass to logits `(P, 1, V)` at the one position that is asked for.
        params: its parameters.
        pairs: as many as are to be in memory at one time.
        sizes: n of every window.
        mask_id: the id of MASK.
        hide_masked: whether masked tokens are not attended to either, as the model was trained
            (`MaskingConfig.hide_selected`).
        target: whether the position itself is masked in all that are compared, or in none.
    """

    def distribution(hidden_PxT: jax.Array) -> jax.Array:
        masked_PxT = hidden_PxT & pairs.words_PxT
        visible_PxT = pairs.visible_PxT & ~masked_PxT if hide_masked else pairs.visible_PxT
        inputs = TokenInputs(
            jnp.where(masked_PxT, mask_id, pairs.tokens_PxT),
            visible_PxT,
            at_BxP=pairs.position_P[:, None],
        )
        return jax.nn.softmax(apply(params, inputs)[:, 0])

    # One forward pass after the other: the model is compiled once, and one of them fills the memory
    # as well as all. There are N: nothing but the target is hidden, each window, all but each
    # window.
    length = pairs.tokens_PxT.shape[1]
    own_PxT = in_window(pairs.position_P, length, 1)
    target_PxT = own_PxT if target == "masked" else jnp.zeros_like(own_PxT)
    inside_ZxPxT = jnp.stack([in_window(pairs.position_P, length, n) for n in sizes])
    hidden_NxPxT = jnp.concatenate(
        [
            target_PxT[None],
            (inside_ZxPxT & ~own_PxT[None]) | target_PxT[None],
            ~inside_ZxPxT | target_PxT[None],
        ]
    )
    p_NxPxV = jax.lax.map(distribution, hidden_NxPxT)
    return total_variation(p_NxPxV[1:], p_NxPxV[:1]).reshape(2, len(sizes), -1)
