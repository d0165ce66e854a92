"""Masked prediction: which tokens of a batch are to be predicted, and what the model sees in their
place (BERT; paper section 4).

Each token is selected on its own (`mask_tokens`), or a fixed number of them in every row
(`mask_count`).

Shapes: B sentences of T tokens, of which at most P are packed.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from scipy import special

from common.base.config import Fraction, configuration

OVERFLOW = 1e-9
"""Probability that more positions of a row are selected than it has room for when packed."""


@configuration
class CorruptionConfig:
    """How many tokens are selected, and what the model sees in their place. The defaults are the
    paper's fraction with BERT's proportions."""

    fraction: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Share of the tokens that are selected; selected tokens are what the loss is about."""
    mask_share: Fraction = 0.8
    """Share of the selected tokens that the model sees as MASK."""
    random_share: Fraction = 0.1
    """Share that it sees as a random word, the right one included; it sees the rest as they are."""

    def __post_init__(self) -> None:
        if self.mask_share + self.random_share > 1 + 1e-9:
            raise ValueError(
                f"masking.mask_share = {self.mask_share} and masking.random_share ="
                f" {self.random_share} sum to more than 1"
            )


@configuration
class MaskingConfig(CorruptionConfig):
    """Tokens are selected each on its own, with probability `fraction`."""

    hide_selected: bool = False
    """No position attends to a selected one, as in the published code (attention mask of
    create_mlm.py), so that kept and random tokens inform only their own position. BERT hides
    padding alone."""
    select_special: bool = False
    """Every token but padding may be selected, as in the published code, whose sentences have BOS
    and no EOS; False: only words may be."""


@configuration
class CountedMaskingConfig(CorruptionConfig):
    """Of the words of a row `fraction` are selected, rounded to a whole number of at least one: as
    many in all rows of one length."""

    whole_words: bool = False
    """Select all pieces of a word or none, but for one word a row, of which the first pieces are
    selected if there is no room for all."""


class Masked(NamedTuple):
    """A batch as the model sees it. The labels are the tokens themselves, where `selected`."""

    inputs_BxT: jax.Array
    """Tokens with the selected ones corrupted."""
    selected_BxT: jax.Array
    """Positions to be predicted, bool."""
    visible_BxT: jax.Array
    """Positions that may be attended to, bool: never padding, nor the selected ones under
    `hide_selected`."""


def mask_tokens(
    key: jax.Array,
    tokens_BxT: jax.Array,
    words_BxT: jax.Array,
    config: MaskingConfig,
    *,
    mask_id: int,
    pad_id: int,
    word_ids: Sequence[int],
    first: int | jax.Array = 0,
) -> Masked:
    """Select and corrupt tokens, each independently. Row i depends on fold_in(key, first + i) and
    its own tokens alone.

    Args:
        key: a scalar PRNG key.
        tokens_BxT: ids, int.
        words_BxT: which tokens are words and no special ones, bool: all that may be selected,
            unless `config.select_special`.
        config: how.
        mask_id: the id of MASK.
        pad_id: the id of padding, which is neither selected nor visible.
        word_ids: the ids from which random words are drawn, uniformly.
        first: number of the first row, where a batch is one part of a larger one.
    """
    present_BxT = tokens_BxT != pad_id
    maskable_BxT = present_BxT if config.select_special else present_BxT & words_BxT

    def select_row(key: jax.Array, maskable_T: jax.Array) -> jax.Array:
        return maskable_T & (jax.random.uniform(key, maskable_T.shape) < config.fraction)

    inputs_BxT, selected_BxT = _mask_rows(
        key, tokens_BxT, maskable_BxT, select_row, config, mask_id, word_ids, first
    )
    return Masked(
        inputs_BxT,
        selected_BxT,
        present_BxT & ~selected_BxT if config.hide_selected else present_BxT,
    )


def mask_count(
    key: jax.Array,
    tokens_BxT: jax.Array,
    words_BxT: jax.Array,
    config: CountedMaskingConfig,
    *,
    mask_id: int,
    pad_id: int,
    word_ids: Sequence[int],
    begins_word_BxT: jax.Array | None = None,
    first: int | jax.Array = 0,
) -> Masked:
    """Select a fixed number of words in each row, all sets of so many with the same probability,
    and corrupt them each on its own. Row i depends on fold_in(key, first + i) and its own tokens
    alone.

    Args:
        key: a scalar PRNG key.
        tokens_BxT: ids, int.
        words_BxT: which tokens are words and no special ones, bool: all that may be selected.
        config: how.
        mask_id: the id of MASK.
        pad_id: the id of padding, which is not visible.
        word_ids: the ids from which random words are drawn, uniformly.
        begins_word_BxT: which tokens are the first piece of a word, bool; needed for whole words,
            whose order is drawn at random.
        first: number of the first row, where a batch is one part of a larger one.
    """
    counts_N = jnp.asarray(_counts(config.fraction, tokens_BxT.shape[1]))
    numbers_BxT = jnp.broadcast_to(jnp.arange(tokens_BxT.shape[1]), tokens_BxT.shape)
    if config.whole_words:
        assert begins_word_BxT is not None
        # What follows a special token begins a word, of which the row has no other piece.
        follows_word_BxT = jnp.pad(words_BxT[:, :-1], ((0, 0), (1, 0)))
        numbers_BxT = jnp.cumsum(begins_word_BxT | ~words_BxT | ~follows_word_BxT, axis=1) - 1

    def select_row(key: jax.Array, row: tuple[jax.Array, jax.Array]) -> jax.Array:
        words_T, numbers_T = row
        turn_T = jax.random.uniform(key, words_T.shape)[numbers_T]  # common to a word's pieces
        order_T = jnp.argsort(jnp.where(words_T, turn_T, jnp.inf), stable=True)
        is_chosen_T = jnp.arange(len(words_T)) < counts_N[jnp.sum(words_T)]
        return jnp.zeros_like(words_T).at[order_T].set(is_chosen_T)

    inputs_BxT, selected_BxT = _mask_rows(
        key, tokens_BxT, (words_BxT, numbers_BxT), select_row, config, mask_id, word_ids, first
    )
    return Masked(inputs_BxT, selected_BxT, tokens_BxT != pad_id)


def counted_size(fraction: float, num_words: int) -> int:
    """How many words `mask_count` selects of so many."""
    if num_words == 0:
        return 0
    return max(1, math.floor(fraction * num_words + 0.5))


@functools.cache
def _counts(fraction: float, most: int) -> np.ndarray:
    """`counted_size` of 0 to `most` words: looked up, because devices round products otherwise."""
    return np.asarray([counted_size(fraction, words) for words in range(most + 1)], np.int32)


def _mask_rows(
    key: jax.Array,
    tokens_BxT: jax.Array,
    rows: Any,
    select_row: Callable[[jax.Array, Any], jax.Array],
    config: CorruptionConfig,
    mask_id: int,
    word_ids: Sequence[int],
    first: int | jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """What the model sees of each row, and which of its tokens are selected, `(B, T)` each.

    Args:
        key: a scalar PRNG key.
        tokens_BxT: ids.
        rows: what decides which tokens may be selected, rows first.
        select_row: (key, that of one row) to the selected tokens of the row, `(T,)` bool.
        config: in what proportions selected tokens are corrupted.
        mask_id: the id of MASK.
        word_ids: those of random words.
        first: number of the first row.
    """
    numbers_B = jnp.asarray(first, jnp.uint32) + jnp.arange(len(tokens_BxT), dtype=jnp.uint32)

    def mask_row(number: jax.Array, tokens_T: jax.Array, row: Any) -> tuple[jax.Array, jax.Array]:
        select_key, fate_key, word_key = jax.random.split(jax.random.fold_in(key, number), 3)
        selected_T = select_row(select_key, row)
        fate_T = jax.random.uniform(fate_key, tokens_T.shape)
        word_T = random_words(word_key, tokens_T.shape, word_ids, tokens_T.dtype)
        seen_T = jnp.where(
            fate_T < config.mask_share,
            mask_id,
            jnp.where(fate_T < config.mask_share + config.random_share, word_T, tokens_T),
        )
        return jnp.where(selected_T, seen_T, tokens_T), selected_T

    return jax.vmap(mask_row)(numbers_B, tokens_BxT, rows)


def random_words(
    key: jax.Array, shape: tuple[int, ...], word_ids: Sequence[int], dtype: jnp.dtype
) -> jax.Array:
    """Words drawn uniformly from these ids, each on its own."""
    first, count = min(word_ids), len(word_ids)
    if max(word_ids) - first + 1 == count:  # neighbours, each of them once: no table to look up
        return jax.random.randint(key, shape, first, first + count, dtype)
    return jnp.asarray(np.asarray(word_ids), dtype)[jax.random.randint(key, shape, 0, count)]


class Packed(NamedTuple):
    """The selected positions of a batch, side by side; what is left of a row is filled up with
    positions that are not selected."""

    at_BxP: jax.Array
    """Positions; those that are selected come first, in order."""
    labels_BxP: jax.Array
    """The right tokens there."""
    mask_BxP: jax.Array
    """Which of them are selected, bool."""


def packed_size(fraction: float, length: int) -> int:
    """Room for the selected positions of a row, so that it suffices but for once in 1/`OVERFLOW`
    rows.

    Args:
        fraction: probability that a token is selected, each on its own.
        length: tokens in a row. Where some of them may not be selected, there is the more room.
    """
    sizes = np.arange(length + 1)
    overflow = special.bdtrc(sizes, length, fraction)  # probability of more than so many
    return int(np.argmax(overflow < OVERFLOW))


def pack(tokens_BxT: jax.Array, selected_BxT: jax.Array, size: int) -> Packed:
    """The first `size` selected positions of every row; a row that has more of them loses the
    last ones (see `packed_size`)."""
    at_BxP = jnp.argsort(~selected_BxT, axis=1, stable=True)[:, :size]
    return Packed(
        at_BxP,
        jnp.take_along_axis(tokens_BxT, at_BxP, axis=1),
        jnp.take_along_axis(selected_BxT, at_BxP, axis=1),
    )
