"""From masked sentences to the batch that a model learns from.

Shapes: B sentences of T tokens, of which P are asked about; V tokens in the vocabulary.
"""

import jax
import jax.numpy as jnp

from common.nn.blocks import TokenInputs
from common.nn.functional import Batch
from common.sequence.masking import Masked, pack, packed_size

LARGE_VOCABULARY = 1024
"""From so many tokens on the selected positions are packed: then the output layer, whose cost grows
with the vocabulary, is much of what a step costs, and most of its answers are not asked for."""


def masked_batch(
    tokens_BxT: jax.Array, masked: Masked, *, fraction: float, vocabulary: int
) -> Batch:
    """What the model sees, the right tokens as labels, and which of them are asked for.

    The batch has labels and mask `(B, T)`; with a large vocabulary `(B, P)`, at the positions that
    the inputs ask for. Of both the mean loss is the same.

    Args:
        tokens_BxT: the sentences as they are.
        masked: as the model sees them.
        fraction: `MaskingConfig.fraction`, by which positions were selected.
        vocabulary: number of tokens.
    """
    if vocabulary < LARGE_VOCABULARY:
        inputs = TokenInputs(masked.inputs_BxT, masked.visible_BxT)
        return Batch(inputs, tokens_BxT, masked.selected_BxT.astype(jnp.float32))
    return packed_batch(tokens_BxT, masked, packed_size(fraction, tokens_BxT.shape[1]))


def packed_batch(tokens_BxT: jax.Array, masked: Masked, size: int) -> Batch:
    """The same with labels and mask `(B, P)`, whatever the vocabulary.

    Args:
        tokens_BxT: the sentences as they are.
        masked: as the model sees them.
        size: P, no fewer than are selected of any sentence.
    """
    packed = pack(tokens_BxT, masked.selected_BxT, size)
    inputs = TokenInputs(masked.inputs_BxT, masked.visible_BxT, packed.at_BxP)
    return Batch(inputs, packed.labels_BxP, packed.mask_BxP.astype(jnp.float32))


def visible_mean(losses_BxT: jax.Array, inputs: TokenInputs) -> jax.Array:
    """The mean of what was lost at the positions that are seen, a scalar; zero where none is."""
    assert inputs.visible_BxT is not None
    num_seen = jnp.sum(inputs.visible_BxT, dtype=jnp.float32)
    share = inputs.visible_BxT.size / jnp.maximum(num_seen, 1)
    return jnp.mean(losses_BxT * inputs.visible_BxT * share)
