"""Rows of text: how documents are cut, which rows are drawn, and that they are the same wherever
the tokens lie."""

from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from common.base.errors import UserError
from common.base.keys import purpose_key
from mlm.corpus import Shard, Split
from mlm.rows import Frame, RowTable, TextRows, cut, look_up
from tests.corpora import NUM_SPECIAL, Documents, random_documents

MASKED = Frame(begin=2, end=3, pad=0)
CAUSAL = Frame(begin=1, end=None, pad=1)
SIGNIFICANCE = 1e-5
LENGTH = 12
MOST = LENGTH - MASKED.num_tokens
LOOK_UP = jax.jit(look_up, static_argnums=(2, 3))

lengths_of_documents = st.lists(st.integers(1, 60), min_size=1, max_size=12)


def offsets_of(lengths: list[int]) -> np.ndarray:
    return np.cumsum([0, *lengths]).astype(np.int64)


def split_of(*shards: tuple[float, Documents]) -> Split:
    made = tuple(
        Shard(
            f"train-{i:05d}",
            f"of weight {weight:g}",
            weight,
            np.concatenate([np.asarray(text, np.uint16) for text in documents]),
            offsets_of([len(text) for text in documents]),
        )
        for i, (weight, documents) in enumerate(shards)
    )
    num_documents = sum(shard.num_documents for shard in made)
    return Split(made, num_documents, sum(len(shard.tokens) for shard in made))


TWO_WEIGHTS = split_of(
    (2.0, random_documents(0, 30, 50)),
    (0.5, random_documents(1, 40, 30)),
    (2.0, random_documents(2, 10, 80)),
)


def rows_of(table: RowTable, frame: Frame = MASKED) -> list[list[int]]:
    """Every row in the order of numbers, by plain indexing."""
    rows = []
    for shard, first, stop in zip(
        table.shards, table.first_row_S[:-1], table.first_row_S[1:], strict=True
    ):
        for i in range(first, stop):
            start, size = int(table.start_R[i]), int(table.length_R[i])
            text = shard.tokens[start : start + size].tolist()
            end = [] if frame.end is None else [frame.end]
            padding = [frame.pad] * (table.most - size)
            rows.append([frame.begin, *text, *end, *padding])
    return rows


@given(lengths=lengths_of_documents, most=st.integers(1, 25))
def test_documents_are_cut_into_few_and_even_rows(lengths: list[int], most: int) -> None:
    """Side by side they are the text, none reaches into another document, and those of a document
    differ by a token at the most."""
    offsets = offsets_of(lengths)
    start_R, length_R = cut(offsets, most)
    assert (start_R.dtype, length_R.dtype) == (np.int64, np.uint16)
    np.testing.assert_array_equal(start_R, np.cumsum(length_R) - length_R)
    assert start_R[-1] + length_R[-1] == offsets[-1]
    for (first, stop), length in zip(pairwise(offsets), lengths, strict=True):
        own = length_R[(start_R >= first) & (start_R < stop)].astype(int)
        assert len(own) == -(-length // most)
        assert own.sum() == length
        assert own.max() - own.min() <= 1
        assert own.max() <= most


@given(lengths=lengths_of_documents, most=st.integers(1, 25))
def test_rows_run_across_documents_where_they_are_asked_to(lengths: list[int], most: int) -> None:
    split = split_of((1.0, [[7] * length for length in lengths]))
    total = sum(lengths)
    if total < most:
        with pytest.raises(
            UserError, match=f"has {total} tokens of text where one row takes {most}"
        ):
            RowTable(split, most, across_documents=True)
        return
    table = RowTable(split, most, across_documents=True)
    expected = cut(np.asarray([0, total]), most)
    np.testing.assert_array_equal(table.start_R, expected[0])
    np.testing.assert_array_equal(table.length_R, expected[1])
    assert table.num_rows == -(-total // most)


@given(
    numbers=st.lists(st.integers(0, 10_000), min_size=1, max_size=40),
    across=st.booleans(),
    frame=st.sampled_from([MASKED, CAUSAL]),
)
@settings(max_examples=30)
def test_a_row_is_the_same_in_the_whole_and_in_every_part(
    numbers: list[int], across: bool, frame: Frame
) -> None:
    table = RowTable(TWO_WEIGHTS, LENGTH - frame.num_tokens, across_documents=across)
    wanted = np.resize(numbers, 40) % table.num_rows
    expected = np.asarray(rows_of(table, frame))[wanted]
    needed = np.unique(wanted)
    part = table.part(np.concatenate([needed, np.full(40 - len(needed), needed[-1])]))
    for rows in (table.whole(), part):
        found = LOOK_UP(rows, jnp.asarray(wanted, jnp.int32), LENGTH, frame)
        assert found.dtype == jnp.int32
        np.testing.assert_array_equal(found, expected)


def test_shards_of_one_file_are_not_copied() -> None:
    split = split_of((1.0, random_documents(0, 30, 50)))
    assert RowTable(split, MOST).whole().text_N is split.shards[0].tokens


def test_large_ids_are_kept() -> None:
    shard = Shard("a", "a", 1.0, np.asarray([70_000, 5] * 10, np.uint32), np.asarray([0, 20]))
    table = RowTable(Split((shard,), 1, 20), MOST)
    for rows in (table.whole(), table.part(np.asarray([0, 1]))):
        found = LOOK_UP(rows, jnp.asarray([1]), LENGTH, MASKED)
        assert found[0].tolist() == [MASKED.begin, *[70_000, 5] * 5, MASKED.end]


def test_rows_are_drawn_by_the_weights_of_their_sources() -> None:
    """A row of weight 2 four times as often as one of weight 0.5, and all of one weight alike."""
    table = RowTable(TWO_WEIGHTS, MOST)
    assert [shard.weight for shard in table.shards] == [0.5, 2.0, 2.0]
    numbers = np.asarray(table.draw(jax.random.key(0), 200_000))
    assert numbers.dtype == np.int32
    counts = np.bincount(numbers, minlength=table.num_rows)
    weight_R = np.repeat([shard.weight for shard in table.shards], np.diff(table.first_row_S))
    expected = counts.sum() * weight_R / weight_R.sum()
    assert stats.chisquare(counts, expected).pvalue > SIGNIFICANCE


def test_equal_weights_are_no_weights() -> None:
    """Whatever they are, and however the text is spread over shards."""
    documents = [random_documents(seed, 20, 50) for seed in range(3)]
    apart = split_of(*((3.0, of_shard) for of_shard in documents))
    together = split_of((1.0, [text for of_shard in documents for text in of_shard]))
    first, second = (RowTable(split, MOST) for split in (apart, together))
    key = jax.random.key(1)
    np.testing.assert_array_equal(first.draw(key, 500), second.draw(key, 500))
    assert rows_of(first) == rows_of(second)
    counts = np.bincount(first.draw(key, 100_000), minlength=first.num_rows)
    assert stats.chisquare(counts).pvalue > SIGNIFICANCE


def test_draws_depend_on_the_key_alone() -> None:
    table = RowTable(TWO_WEIGHTS, MOST)
    keys = [jax.random.fold_in(jax.random.key(3), step) for step in (5, 6, 5)]
    first, other, again = (np.asarray(table.draw(key, 64)) for key in keys)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    spread = jax.jit(
        lambda key: table.draw(key, 64),
        out_shardings=jax.NamedSharding(
            jax.make_mesh((2,), ("batch",)), jax.sharding.PartitionSpec("batch")
        ),
    )(keys[0])
    np.testing.assert_array_equal(first, spread)
    assert (np.asarray(table.draw(purpose_key(keys[0], "masks"), 64)) != first).any()


def test_what_does_not_fit_is_said() -> None:
    small = split_of((1.0, [[NUM_SPECIAL] * 9]))
    with pytest.raises(
        UserError, match=r"9 tokens of text where one row takes 10;.*--data\.length"
    ):
        RowTable(small, MOST)
    assert RowTable(small, MOST - 1).num_rows == 1
    many = Split(TWO_WEIGHTS.shards, 1, 2**31)
    assert RowTable(many, MOST).nbytes > 2**40


def test_a_table_says_how_much_room_it_takes(tmp_path: Path) -> None:
    table = RowTable(TWO_WEIGHTS, MOST)

    def size(rows: TextRows) -> int:
        return sum(leaf.nbytes for leaf in rows)

    assert size(table.whole()) == table.nbytes
    assert size(table.part(np.arange(7))) == 7 * table.example_bytes
