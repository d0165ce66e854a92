"""Rows of text: pieces of documents in a frame of special tokens, numbered over all shards of a
split.

A document longer than a row is cut into as few and as even pieces as can be. So every token stands
in one row, and none in a row that is much shorter than the others of its document. Which rows a
step sees is drawn by their numbers, with replacement, from the key of the step alone: wherever the
tokens lie, the batch is the same.

Shapes: R rows of a split, B of a batch; T tokens of a row, of which C are text; N tokens of text.
"""

import itertools
import sys
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common.base.errors import UserError
from common.base.keys import purpose_key
from mlm.corpus import Split

INT32 = 2**31
ROW_BYTES = 4 + 2 + 4
"""Of a row's start, length and number."""


class Frame(NamedTuple):
    """What stands around the text of a row."""

    begin: int
    """The first token."""
    end: int | None
    """The one behind the text; None: there is none."""
    pad: int

    @property
    def num_tokens(self) -> int:
        """Of a row, those that are no text."""
        return 1 if self.end is None else 2


class TextRows(NamedTuple):
    """Rows as compiled programs read them: all of a split, or some."""

    text_N: np.ndarray | jax.Array
    """Ids, uint16 or uint32."""
    start_R: np.ndarray | jax.Array
    """Where each row begins in the text, int32."""
    length_R: np.ndarray | jax.Array
    """Tokens of its text, uint16."""
    number_R: np.ndarray | jax.Array
    """The numbers of these rows in the split, which rise, int32."""


class Group(NamedTuple):
    """Rows of one weight, neighbours in the table."""

    first: int
    stop: int
    probability: float
    """That a row drawn is one of them."""


class RowTable:
    """Where each row of a split begins in its shard, and how long it is."""

    def __init__(self, split: Split, most: int, *, across_documents: bool = False) -> None:
        """Cut all documents. Of their tokens nothing is read.

        Args:
            split: of a prepared corpus.
            most: C.
            across_documents: cut the text of a shard as if it were one document.

        Raises:
            UserError: the split has less text than one row, or more rows than can be numbered.
        """
        if split.num_tokens < most:
            raise UserError(
                f"the corpus has {split.num_tokens:,} tokens of text where one row takes {most:,};"
                " give a larger corpus, or a smaller --data.length"
            )
        self.split, self.most = split, most
        # Stable: a shard's place among those of its weight is that in the corpus.
        self.shards = sorted(split.shards, key=lambda shard: shard.weight)
        cuts = [
            cut(shard.offsets[[0, -1]] if across_documents else shard.offsets, most)
            for shard in self.shards
        ]
        self.start_R = np.concatenate([start for start, _ in cuts])
        self.length_R = np.concatenate([length for _, length in cuts])
        self.first_row_S = np.cumsum([0, *(len(start) for start, _ in cuts)])
        if self.num_rows >= INT32:
            raise UserError(
                f"the corpus has {self.num_rows:,} rows, more than can be numbered; give a larger"
                " --data.length"
            )
        self.groups = _groups([shard.weight for shard in self.shards], self.first_row_S)

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self.start_R)

    @property
    def example_bytes(self) -> int:
        """Of a row in a part."""
        return self.most * self.shards[0].tokens.itemsize + ROW_BYTES

    @property
    def nbytes(self) -> int:
        """Of the whole, or no end where a device cannot count its tokens."""
        if self.split.num_tokens >= INT32 - self.most:
            return sys.maxsize
        return self.split.num_tokens * self.shards[0].tokens.itemsize + self.num_rows * ROW_BYTES

    def draw(self, key: jax.Array, num_examples: int) -> jax.Array:
        """Numbers of rows, int32 `(B,)`, drawn with replacement."""
        group_key, row_key = jax.random.split(purpose_key(key, "rows"))
        if len(self.groups) == 1:
            return jax.random.randint(row_key, (num_examples,), 0, self.num_rows)
        first_G = jnp.asarray([group.first for group in self.groups], jnp.int32)
        stop_G = jnp.asarray([group.stop for group in self.groups], jnp.int32)
        bounds_G = np.cumsum([group.probability for group in self.groups])[:-1].astype(np.float32)
        uniform_B = jax.random.uniform(group_key, (num_examples,))
        group_B = jnp.sum(uniform_B[:, None] >= jnp.asarray(bounds_G)[None], axis=1)
        return jax.random.randint(row_key, (num_examples,), first_G[group_B], stop_G[group_B])

    def document_of(self, number_N: np.ndarray, position_N: np.ndarray) -> np.ndarray:
        """Number of the document that each token stands in, counted over the shards.

        Args:
            number_N: of the token's row.
            position_N: of the token in its row, whose first one has position 0 and is no text.
        """
        first_document, document_N = 0, np.zeros(len(number_N), np.int64)
        ends = itertools.pairwise(self.first_row_S.tolist())
        for shard, (first, stop) in zip(self.shards, ends, strict=True):
            is_here_N = (number_N >= first) & (number_N < stop)
            token_N = self.start_R[number_N[is_here_N]] + position_N[is_here_N] - 1
            within_N = np.searchsorted(shard.offsets, token_N, side="right") - 1
            document_N[is_here_N] = first_document + within_N
            first_document += shard.num_documents
        return document_N

    def whole(self) -> TextRows:
        """All rows, with the text as it lies in the shards."""
        first_token_S = np.cumsum([0, *(len(shard.tokens) for shard in self.shards)])
        rows_S = np.diff(self.first_row_S)
        start_R = self.start_R + np.repeat(first_token_S[:-1], rows_S)
        tokens = [shard.tokens for shard in self.shards]
        text_N = tokens[0] if len(tokens) == 1 else np.concatenate(tokens)
        number_R = np.arange(self.num_rows, dtype=np.int32)
        return TextRows(text_N, start_R.astype(np.int32), self.length_R, number_R)

    def part(self, numbers_N: np.ndarray) -> TextRows:
        """Some rows, whose numbers rise, side by side."""
        start = np.arange(len(numbers_N), dtype=np.int32) * self.most
        text = self._read(numbers_N)
        return TextRows(
            text.reshape(-1), start, self.length_R[numbers_N], numbers_N.astype(np.int32)
        )

    def _read(self, numbers_R: np.ndarray) -> np.ndarray:
        """The text of some rows, whose numbers rise, `(R, C)`; what follows a shorter row's is to
        be overlooked."""
        text_RxC = np.zeros((len(numbers_R), self.most), self.shards[0].tokens.dtype)
        ends = np.searchsorted(numbers_R, self.first_row_S)
        for shard, first, stop in zip(self.shards, ends[:-1], ends[1:], strict=True):
            start_R = self.start_R[numbers_R[first:stop]]
            at_RxC = start_R[:, None] + np.arange(self.most)[None]
            # Rows rise, so that the disk is read from front to back.
            text_RxC[first:stop] = shard.tokens[np.minimum(at_RxC, len(shard.tokens) - 1)]
        return text_RxC


def cut(offsets: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the rows of some documents begin, int64, and their lengths, uint16.

    Args:
        offsets: where each document begins, and where the last one ends.
        most: tokens of text in a row.
    """
    length_D = np.diff(offsets)
    pieces_D = -(-length_D // most)
    document_R = np.repeat(np.arange(len(length_D)), pieces_D)
    first_row_D = np.cumsum(pieces_D) - pieces_D
    piece_R = np.arange(len(document_R)) - first_row_D[document_R]
    shorter_D, num_longer_D = np.divmod(length_D, np.maximum(pieces_D, 1))
    shorter_R, num_longer_R = shorter_D[document_R], num_longer_D[document_R]
    start_R = offsets[:-1][document_R] + piece_R * shorter_R + np.minimum(piece_R, num_longer_R)
    return start_R, (shorter_R + (piece_R < num_longer_R)).astype(np.uint16)


def look_up(rows: TextRows, numbers_B: jax.Array, length: int, frame: Frame) -> jax.Array:
    """The rows of these numbers in their frames, padded, int32 `(B, T)`."""
    # Searched for where all rows are there, too: so that the program is the same one, but for the
    # sizes of these arrays, and rounds alike.
    at_B = _first_at_least(jnp.asarray(rows.number_R), numbers_B)
    start_B, length_B = jnp.asarray(rows.start_R)[at_B], jnp.asarray(rows.length_R)[at_B]
    places_T = jnp.arange(length)[None]
    stop_Bx1 = length_B[:, None].astype(jnp.int32) + 1  # of the text; place 0 is not its
    # What lies outside of the row is overlooked; nor is there anything to be read after the last.
    at_BxT = start_B[:, None] + places_T - 1
    text_BxT = jnp.asarray(rows.text_N).at[at_BxT].get(mode="clip").astype(jnp.int32)
    tokens_BxT = jnp.where(places_T < stop_Bx1, text_BxT, frame.pad)
    if frame.end is not None:
        tokens_BxT = jnp.where(places_T == stop_Bx1, frame.end, tokens_BxT)
    return jnp.where(places_T == 0, frame.begin, tokens_BxT)


def _first_at_least(rising_R: jax.Array, numbers_B: jax.Array) -> jax.Array:
    """Where each number comes first among rising ones, which have it. (`jnp.searchsorted` refuses
    arrays that differ from device to device.)"""
    last = len(rising_R) - 1

    def halve(_: int, between: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low_B, high_B = between
        middle_B = (low_B + high_B) // 2
        is_below_B = rising_R[middle_B] < numbers_B
        return jnp.where(is_below_B, middle_B + 1, low_B), jnp.where(is_below_B, high_B, middle_B)

    # From the numbers, so that both differ from device to device as those do.
    low_B, high_B = jnp.zeros_like(numbers_B), jnp.full_like(numbers_B, last)
    return jax.lax.fori_loop(0, last.bit_length(), halve, (low_B, high_B))[0]


def _groups(weight_S: Sequence[float], first_row_S: np.ndarray) -> list[Group]:
    """Shards of one weight together, which are neighbours."""
    masses: list[tuple[float, int, int]] = []
    first_shard = 0
    for weight, same in itertools.groupby(weight_S):
        stop_shard = first_shard + len(list(same))
        first, stop = int(first_row_S[first_shard]), int(first_row_S[stop_shard])
        masses.append((weight * (stop - first), first, stop))
        first_shard = stop_shard
    total = sum(mass for mass, _, _ in masses)
    return [Group(first, stop, mass / total) for mass, first, stop in masses]
