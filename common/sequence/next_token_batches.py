"""From sentences to the batch that a model of the next token learns from.

Shapes: B sentences of T tokens, of which T - 1 have one before them.
"""

import jax
import jax.numpy as jnp

from common.nn.blocks import TokenInputs
from common.nn.functional import Batch


def next_token_batch(tokens_BxT: jax.Array, supervised_BxT: jax.Array) -> Batch:
    """What the model sees, the token after each as its label, and which of them are asked for;
    labels and mask are `(B, T - 1)`.

    Nothing is hidden from a causal model: padding stands on the right, and no token that is asked
    for sees it.

    Args:
        tokens_BxT: the sentences from BOS on, padded on the right.
        supervised_BxT: which tokens are to be predicted; what stands first never is.
    """
    inputs = TokenInputs(tokens_BxT[:, :-1])
    return Batch(inputs, tokens_BxT[:, 1:], supervised_BxT[:, 1:].astype(jnp.float32))
