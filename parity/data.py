"""Sparse parity: x uniform on {-1,+1}^d, labelled by the product of the k coordinates in a support (paper section 3)."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from common.config import PositiveInt, Seed, configuration
from common.engine import Batch
from common.errors import UserError
from common.keys import seed_key

NUM_CLASSES = 2


@configuration
class ParityData:
    """One parity problem. The support is given or drawn from the data seed, which no run seed touches."""

    d: PositiveInt
    """Number of coordinates."""
    k: PositiveInt
    """Size of the support: the degree of the parity."""
    support: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """The coordinates whose product is the label; drawn from --data.seed if not given."""
    with_replacement: bool = False
    """Draw the support with replacement, as the published code does: a coordinate drawn twice cancels, so the degree may come out below k."""
    seed: Seed = 0
    """Seed of the support and of the evaluation set."""

    def __post_init__(self) -> None:
        if self.k > self.d:
            raise ValueError(f"data.k = {self.k} is larger than data.d = {self.d}; k coordinates are chosen out of d")
        if self.support is not None:
            if len(self.support) != self.k:
                raise ValueError(f"data.support = {self.support} has {len(self.support)} coordinates, but data.k = {self.k}")
            if len(set(self.support)) != self.k:
                raise ValueError(f"data.support = {self.support} names a coordinate twice")
            if max(self.support) >= self.d or min(self.support) < 0:
                raise ValueError(f"data.support = {self.support}: coordinates are numbered 0 to d-1 = {self.d - 1}")


def support_of(data: ParityData) -> tuple[int, ...]:
    """The support, in increasing order; k coordinates, or fewer where some were drawn twice.

    Raises:
        UserError: all coordinates cancel.
    """
    if data.support is not None:
        return tuple(sorted(data.support))
    chosen = np.asarray(jax.random.choice(seed_key(data.seed, "support"), data.d, (data.k,), replace=data.with_replacement))
    coordinates, counts = np.unique(chosen, return_counts=True)
    if not (counts % 2).any():
        raise UserError(f"data.seed = {data.seed} draws every coordinate an even number of times, so that all labels are equal; choose another")
    return tuple(int(i) for i in coordinates[counts % 2 == 1])


def sample(key: jax.Array, data: ParityData, support: tuple[int, ...], num_examples: int) -> Batch:
    """Draw examples: inputs `(B, d)` in {-1,+1} as float32, labels `(B,)`, class 1 where the product over the support is +1."""
    num_words = -(-data.d // 32)
    words_BxW = jax.random.bits(key, (num_examples, num_words), jnp.uint32)
    bits_BxD = ((words_BxW[:, :, None] >> jnp.arange(32, dtype=jnp.uint32)[None, None, :]) & 1).reshape(num_examples, -1)[:, : data.d]
    ones_B = jnp.sum(bits_BxD[:, jnp.asarray(support)], axis=1)  # a set bit is the coordinate -1
    labels_B = (1 - ones_B % 2).astype(jnp.int32)
    return Batch(1.0 - 2.0 * bits_BxD.astype(jnp.float32), labels_B, jnp.ones(num_examples, jnp.float32))


def eval_batch(data: ParityData, support: tuple[int, ...], num_examples: int) -> Batch:
    """The fixed evaluation set: the same for all runs on these data, from a stream that training never uses."""
    return sample(seed_key(data.seed, "evaluation"), data, support, num_examples)
