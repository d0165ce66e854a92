"""Training examples that the devices have no room for: the host hands over those of the next steps.

Which examples a step sees is drawn by their numbers, as on a device that has all of them. A part of
them is data of the same kind: `Task.sample` finds in it what it draws, and no engine knows the
difference.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

PART_BYTES = 2**23
"""Of examples that are handed over at one time. A part is read while the steps before it are
taken, and two of them are there at any time."""

Part = Any
"""A pytree of arrays: some of the stored examples, or all."""


class Stored(Protocol):
    """Training examples in memory or on a disk, by number."""

    @property
    def nbytes(self) -> int:
        """Of all of them, on a device."""
        ...

    @property
    def example_bytes(self) -> int:
        """Of one of them in a part."""
        ...

    def draw(self, key: jax.Array, num_examples: int) -> jax.Array:
        """The numbers of the examples of a batch, int32 `(B,)`; pure."""
        ...

    def whole(self) -> Part:
        """All examples."""
        ...

    def part(self, numbers_N: np.ndarray) -> Part:
        """The examples of these numbers, which rise; the last may come several times. Parts of as
        many numbers have the same shapes."""
        ...


class _Held(NamedTuple):
    """The examples of the steps from `first` on."""

    first: int
    part: Part


class Feed:
    """Hands over parts of stored examples, each read in a thread of its own beside the training."""

    def __init__(
        self,
        stored: Stored,
        numbers: Callable[[int, int], jax.Array],
        place: Callable[[Part], Part],
        step_examples: int,
    ) -> None:
        """Nothing is read yet.

        Args:
            stored: the examples.
            numbers: (first step, number of steps) to the numbers of all examples that these steps
                see; dispatched, not waited for.
            place: puts a part on the devices.
            step_examples: how many a step sees, of all lanes together.
        """
        self.stored, self.numbers, self.place = stored, numbers, place
        self.num_steps = max(1, PART_BYTES // (step_examples * stored.example_bytes))
        self.held: _Held | None = None
        self.coming: tuple[int, Future[Part]] | None = None
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed")

    def pieces(self, num_steps: int) -> list[int]:
        """Into how many steps each a chunk is cut, so that a part suffices for every piece: as few
        and as even ones as can be."""
        num_pieces = -(-num_steps // self.num_steps)
        shorter, num_longer = divmod(num_steps, num_pieces)
        return [shorter + (i < num_longer) for i in range(num_pieces)]

    def part(self, first: int, num_steps: int) -> Part:
        """What these steps see, and perhaps further ones. The part after it is being read when this
        returns, unless the same one is likely to do."""
        if self.held is None or not self._covers(self.held.first, first, num_steps):
            self.held = _Held(first, self._take(first))
        stop = first + num_steps
        if self.coming is None and not self._covers(self.held.first, stop, num_steps):
            # Drawn here, because a device computes what it is asked for first.
            self.coming = stop, self._reader.submit(self._read, self._drawn(stop))
        return self.held.part

    def _covers(self, first_held: int, first: int, num_steps: int) -> bool:
        return first_held <= first and first + num_steps <= first_held + self.num_steps

    def _take(self, first: int) -> Part:
        coming, self.coming = self.coming, None
        if coming is not None and coming[0] == first:
            return coming[1].result()
        return self._read(self._drawn(first))

    def _drawn(self, first: int) -> jax.Array:
        return self.numbers(first, self.num_steps)

    def _read(self, numbers: jax.Array) -> Part:
        needed = np.unique(np.asarray(numbers))
        filling = np.full(numbers.size - len(needed), needed[-1])
        return self.place(self.stored.part(np.concatenate([needed, filling])))
