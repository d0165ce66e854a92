"""Splits arrays of examples into parts of one size, whose hidden activations fit in a core's cache,
or in memory."""

from typing import Literal, TypeVar

import jax
import jax.numpy as jnp

TreeT = TypeVar("TreeT")


def part_size(num_examples: int, most: int) -> int:
    """Examples in a part: the largest number up to `most` that divides all examples. If that is
    less than half of `most`, `most` itself, and the last part has to be filled up."""
    largest = max(
        size for size in range(1, min(num_examples, most) + 1) if num_examples % size == 0
    )
    return largest if largest == num_examples or 2 * largest >= most else most


def in_parts(tree: TreeT, size: int, filling: Literal["examples", "zeros"] = "examples") -> TreeT:
    """Arrays of N examples `(N, ...)` as `(parts, size, ...)`.

    Args:
        tree: the arrays.
        size: examples in a part.
        filling: what fills up the last part: the first examples again, whose results the caller
            leaves out, or zeros, for a mask.
    """
    num_examples = len(jax.tree.leaves(tree)[0])
    num_parts = -(-num_examples // size)
    missing = num_parts * size - num_examples

    def split(leaf: jax.Array) -> jax.Array:
        if missing and filling == "zeros":
            leaf = jnp.pad(leaf, ((0, missing), *((0, 0),) * (leaf.ndim - 1)))
        elif missing:
            leaf = jnp.resize(leaf, (num_parts * size, *leaf.shape[1:]))
        return leaf.reshape(num_parts, size, *leaf.shape[1:])

    return jax.tree.map(split, tree)
