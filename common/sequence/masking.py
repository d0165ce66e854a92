"""Masked prediction: which tokens of a batch are to be predicted, and what the model sees in their
place (BERT; paper section 4).

Shapes: B sentences of T tokens, of which at most P are packed.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from scipy import special

from common.base.config import Fraction, configuration

OVERFLOW = 1e-9
"""Probability that more positions of a row are selected than it has room for when packed."""


@configuration
class MaskingConfig:
    """How tokens are selected and corrupted. The defaults are the paper's fraction with BERT's
    proportions."""

    fraction: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Probability that a token is selected, each on its own; selected tokens are what the loss is
    about."""
    mask_share: Fraction = 0.8
    """Share of the selected tokens that the model sees as MASK."""
    random_share: Fraction = 0.1
    """Share that it sees as a random word, the right one included; it sees the rest as they are."""
    hide_selected: bool = False
    """No position attends to a selected one, as in the published code (attention mask of
    create_mlm.py), so that kept and random tokens inform only their own position. BERT hides
    padding alone."""
    select_special: bool = False
    """Every token but padding may be selected, as in the published code, whose sentences have BOS
    and no EOS; False: only words may be."""

    def __post_init__(self) -> None:
        if self.mask_share + self.random_share > 1 + 1e-9:
            raise ValueError(
                f"masking.mask_share = {self.mask_share} and masking.random_share ="
                f" {self.random_share} sum to more than 1"
            )


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
    rows_B = jnp.asarray(first, jnp.uint32) + jnp.arange(len(tokens_BxT), dtype=jnp.uint32)

    def mask_row(
        row: jax.Array, tokens_T: jax.Array, maskable_T: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        select_key, fate_key, word_key = jax.random.split(jax.random.fold_in(key, row), 3)
        selected_T = maskable_T & (jax.random.uniform(select_key, tokens_T.shape) < config.fraction)
        fate_T = jax.random.uniform(fate_key, tokens_T.shape)
        word_T = random_words(word_key, tokens_T.shape, word_ids, tokens_T.dtype)
        seen_T = jnp.where(
            fate_T < config.mask_share,
            mask_id,
            jnp.where(fate_T < config.mask_share + config.random_share, word_T, tokens_T),
        )
        return jnp.where(selected_T, seen_T, tokens_T), selected_T

    inputs_BxT, selected_BxT = jax.vmap(mask_row)(rows_B, tokens_BxT, maskable_BxT)
    return Masked(
        inputs_BxT,
        selected_BxT,
        present_BxT & ~selected_BxT if config.hide_selected else present_BxT,
    )


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
