"""From sentences to the batch that a model of the next token learns from.

Shapes: B sentences of T tokens, of which T - 1 have one before them, and P are predicted.
"""

import jax
import jax.numpy as jnp

from common.nn.blocks import TokenInputs
from common.nn.functional import Batch
from common.sequence.masking import pack


def next_token_batch(
    tokens_BxT: jax.Array, supervised_BxT: jax.Array, most: int | None = None
) -> Batch:
    """What the model sees, the token after each as its label, and which of them are asked for;
    labels and mask are `(B, T - 1)`, or `(B, P)` at the positions that the inputs ask for.

    Nothing is hidden from a causal model: padding stands on the right, and no token that is asked
    for sees it.

    Args:
        tokens_BxT: the sentences from BOS on, padded on the right.
        supervised_BxT: which tokens are to be predicted; what stands first never is.
        most: P, no fewer than are predicted of any sentence; None: logits are wanted everywhere.
    """
    seen_BxT, labels_BxT, asked_BxT = tokens_BxT[:, :-1], tokens_BxT[:, 1:], supervised_BxT[:, 1:]
    if most is None:
        return Batch(TokenInputs(seen_BxT), labels_BxT, asked_BxT.astype(jnp.float32))
    packed = pack(labels_BxT, asked_BxT, most)
    inputs = TokenInputs(seen_BxT, at_BxP=packed.at_BxP)
    return Batch(inputs, packed.labels_BxP, packed.mask_BxP.astype(jnp.float32))
