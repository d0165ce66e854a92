"""Sparse parity: x uniform on {-1,+1}^d, labelled by the product of the k coordinates in a support
(paper section 3).

Its hierarchical generalisation has 2^depth labels, the leaves of a complete binary tree. Each inner
node has a support of k coordinates, disjoint from all others. The parity of a node says which child
comes next: the left one where it is +1. (The published code's utils.py takes the label with the
largest sum of signed parities along its path, which is the same.) A label's bits, highest first,
are the parities from the root down. Depth 1 is plain parity.
"""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from common.base.config import PositiveInt, Seed, configuration
from common.base.errors import UserError
from common.base.keys import seed_key
from common.nn.functional import Batch

Supports = tuple[tuple[int, ...], ...]
"""The supports of all inner nodes in heap order (the children of node n are 2n + 1, left, and 2n +
2), each in increasing order."""


@configuration
class ParityData:
    """One parity problem. The supports are given, or drawn from the data seed, which is independent
    of the seeds of runs."""

    d: PositiveInt
    """Number of coordinates."""
    k: PositiveInt
    """Size of a support: the degree of the parity."""
    depth: Annotated[int, Field(ge=1, le=10)] = 1
    """Depth of the tree of labels; 1 is plain parity."""
    support: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """The coordinates whose product is the label; with --data.depth > 1 those of all inner nodes,
    in heap order. Drawn from --data.seed if not given."""
    with_replacement: bool = False
    """Draw the support with replacement, as the published code does. A coordinate drawn twice
    cancels, so that the degree may be less than k."""
    seed: Seed = 0
    """Seed of the supports and of the evaluation set."""

    def __post_init__(self) -> None:
        size = self.num_nodes * self.k
        if size > self.d:
            nodes = f"data.k = {self.k}"
            if self.depth > 1:
                nodes = f"{self.num_nodes} disjoint supports of {nodes}"
            raise ValueError(
                f"{nodes} coordinates: larger than data.d = {self.d}; {size} coordinates are chosen"
                " out of d"
            )
        if self.with_replacement and self.depth > 1:
            raise ValueError(
                "data.with_replacement needs data.depth = 1: the supports of a tree are disjoint"
            )
        if self.support is not None:
            self._check_support(self.support, size)

    def _check_support(self, support: tuple[int, ...], size: int) -> None:
        if len(support) != size:
            raise ValueError(
                f"data.support = {support} has {len(support)} coordinates, but {size} are needed"
                f" (data.k = {self.k})"
            )
        if len(set(support)) != size:
            raise ValueError(f"data.support = {support} names a coordinate twice")
        if max(support) >= self.d or min(support) < 0:
            raise ValueError(
                f"data.support = {support}: coordinates are numbered 0 to d-1 = {self.d - 1}"
            )

    @property
    def num_nodes(self) -> int:
        """Inner nodes of the tree of labels."""
        return 2**self.depth - 1

    @property
    def num_classes(self) -> int:
        """The number of labels."""
        return 2**self.depth


def supports_of(data: ParityData) -> Supports:
    """The support of every inner node; k coordinates each, or fewer where some were drawn twice.

    Raises:
        UserError: all coordinates cancel.
    """
    if data.support is not None:
        chosen = np.asarray(data.support)
    else:
        size = (data.num_nodes * data.k,)
        chosen = np.asarray(
            jax.random.choice(
                seed_key(data.seed, "support"), data.d, size, replace=data.with_replacement
            )
        )
    supports = []
    for members in chosen.reshape(data.num_nodes, data.k):
        coordinates, counts = np.unique(members, return_counts=True)
        supports.append(tuple(int(i) for i in coordinates[counts % 2 == 1]))
    if not all(supports):
        raise UserError(
            f"data.seed = {data.seed} draws every coordinate an even number of times, so that all"
            " labels are equal; choose another"
        )
    return tuple(supports)


def sample(key: jax.Array, data: ParityData, supports: Supports, num_examples: int) -> Batch:
    """Draw examples: inputs `(B, I)` in {-1,+1} as float32, labels `(B,)`; of depth 1, class 1
    where the product over the support is +1."""
    num_words = -(-data.d // 32)
    words = jax.random.bits(key, (num_examples, num_words), jnp.uint32)
    bits = (words[:, :, None] >> jnp.arange(32, dtype=jnp.uint32)[None, None, :]) & 1
    bits_BxI = bits.reshape(num_examples, -1)[:, : data.d]
    # A set bit is the coordinate -1, so that a node's parity is +1 for an even number of them.
    is_plus_BxN = jnp.stack(
        [1 - jnp.sum(bits_BxI[:, jnp.asarray(support)], axis=1) % 2 for support in supports], axis=1
    ).astype(jnp.int32)
    labels_B = is_plus_BxN[:, 0]
    for level in range(1, data.depth):
        # So far, labels number the nodes of this level from the all-minus path up; in heap order
        # the all-plus path comes first.
        node_B = 2 ** (level + 1) - 2 - labels_B
        labels_B = 2 * labels_B + jnp.take_along_axis(is_plus_BxN, node_B[:, None], axis=1)[:, 0]
    inputs_BxI = 1.0 - 2.0 * bits_BxI.astype(jnp.float32)
    return Batch(inputs_BxI, labels_B, jnp.ones(num_examples, jnp.float32))


def eval_batch(data: ParityData, supports: Supports, num_examples: int) -> Batch:
    """The fixed evaluation set, the same for all runs on these data; its stream is not used for
    training."""
    return sample(seed_key(data.seed, "evaluation"), data, supports, num_examples)


def level_correct(data: ParityData, logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """Whether the most probable node at each inner level of the tree is the right one.

    A node's probability is the sum over the labels below it. The last level, the label itself, is
    the accuracy and not among these.

    Args:
        data: the problem.
        logits: `(..., 2^depth)`.
        labels: `(...)`.

    Returns:
        For every inner level `accuracy_level_<level>`, `(...)` bool.
    """
    probabilities = jax.nn.softmax(logits)
    found = {}
    for level in range(1, data.depth):
        nodes = jnp.sum(probabilities.reshape(*logits.shape[:-1], 2**level, -1), axis=-1)
        right_node = labels >> (data.depth - level)
        found[f"accuracy_level_{level}"] = jnp.argmax(nodes, axis=-1) == right_node
    return found
