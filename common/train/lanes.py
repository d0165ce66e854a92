"""The independent training runs that train together: seeds x learning rates."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Lane(NamedTuple):
    """One independent training run among those that train together."""

    seed: int
    learning_rate: float
    shared_stream: int | None = None
    """Seed of the training data, if lanes of several seeds see the same data; None: the lane's own
    seed."""

    @property
    def stream(self) -> int:
        """Seed of the training data."""
        return self.seed if self.shared_stream is None else self.shared_stream


class LaneArrays(NamedTuple):
    """Seeds and rates of the lanes as arguments of a compiled program; as constants they would have
    it compiled again for every value."""

    streams_L: jax.Array
    seeds_L: jax.Array
    rates_L: jax.Array

    @classmethod
    def of(cls, lanes: Sequence[Lane]) -> "LaneArrays":
        """The arrays of these lanes."""
        streams, seeds = [lane.stream for lane in lanes], [lane.seed for lane in lanes]
        rates = [lane.learning_rate for lane in lanes]
        return cls(
            jnp.asarray(streams, jnp.uint32),
            jnp.asarray(seeds, jnp.uint32),
            jnp.asarray(rates, jnp.float32),
        )


def lanes_of(
    seeds: Sequence[int], learning_rates: Sequence[float], shared_stream: int | None = None
) -> tuple[Lane, ...]:
    """Seeds x learning rates, the rates of one seed side by side: they share their data, and so
    their teacher's answers."""
    return tuple(Lane(seed, rate, shared_stream) for seed in seeds for rate in learning_rates)
