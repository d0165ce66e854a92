"""Models of whole sequences that read no more padding than they must.

Shapes: B sequences of T tokens.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from common.nn.blocks import TokenInputs
from common.nn.functional import Functional, Params


def truncated(model: Functional, lengths: Sequence[int]) -> Functional:
    """The model, which of every batch reads so many tokens alone as the shortest of some lengths
    has that holds the longest sequence; the answers are those to all tokens.

    Programs have a branch for each length, of which one runs, except where batches of several
    streams are computed together: there all do.

    Args:
        model: whose answers are of whole sequences, `(B, C)`.
        lengths: they rise, and the last is T.
    """

    def branch(length: int) -> Callable[..., jax.Array]:
        def apply(params: Params, inputs: TokenInputs, key: jax.Array | None) -> jax.Array:
            short = jax.tree.map(lambda leaf_BxT: leaf_BxT[:, :length], inputs)
            return model.apply(params, short, key)

        return apply

    branches = [branch(length) for length in lengths]

    def apply(params: Params, inputs: TokenInputs, key: jax.Array | None = None) -> jax.Array:
        assert inputs.visible_BxT is not None
        places_1xT = 1 + jnp.arange(inputs.visible_BxT.shape[1])[None]
        longest = jnp.max(places_1xT * inputs.visible_BxT)
        which = jnp.sum(longest > jnp.asarray(lengths[:-1], jnp.int32))
        return jax.lax.switch(which, branches, params, inputs, key)

    return model._replace(apply=apply)
