"""Masked-prediction batches: what is selected, what is seen, what is hidden."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from common.base.config import validate
from common.base.errors import UserError
from common.sequence.masking import (
    OVERFLOW,
    CountedMaskingConfig,
    MaskingConfig,
    counted_size,
    mask_count,
    mask_tokens,
    pack,
    packed_size,
    random_words,
)

WORDS, BOS, EOS, PAD, MASK = 5, 5, 6, 7, 8
SIGNIFICANCE = 1e-5

shares = st.floats(0, 1).flatmap(lambda mask: st.tuples(st.just(mask), st.floats(0, 1 - mask)))
configs = st.builds(
    lambda fraction, shares, hide, special: MaskingConfig(
        fraction, *shares, hide_selected=hide, select_special=special
    ),
    st.sampled_from([0.15, 0.3, 0.77, 1.0]) | st.floats(0, 1, exclude_min=True),
    st.sampled_from([(0.8, 0.1), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)]) | shares,
    st.booleans(),
    st.booleans(),
)


def batch(seed: int, rows: int = 64, longest: int = 60) -> np.ndarray:
    """Sentences of different lengths between BOS and EOS, padded."""
    rng = np.random.default_rng(seed)
    tokens = np.full((rows, longest + 2), PAD, np.int32)
    tokens[:, 0] = BOS
    for row, length in zip(tokens, rng.integers(1, longest + 1, rows), strict=True):
        row[1 : length + 1], row[length + 1] = rng.integers(0, WORDS, length), EOS
    return tokens


def masked(
    tokens: np.ndarray, config: MaskingConfig, seed: int = 0, first: int = 0
) -> tuple[np.ndarray, ...]:
    ids: dict[str, Any] = {"mask_id": MASK, "pad_id": PAD, "word_ids": range(WORDS)}
    found = mask_tokens(
        jax.random.key(seed),
        jnp.asarray(tokens),
        jnp.asarray(tokens < WORDS),
        config,
        **ids,
        first=first,
    )
    return tuple(map(np.asarray, found))


def assert_share(count: int, of: int, probability: float) -> None:
    assert (
        stats.binomtest(int(count), int(of), min(1.0, probability)).pvalue > SIGNIFICANCE
        if of
        else count == 0
    )


@given(config=configs, seed=st.integers(0, 1000))
def test_what_is_selected_seen_and_visible(config: MaskingConfig, seed: int) -> None:
    tokens = batch(seed)
    inputs, selected, visible = masked(tokens, config, seed)
    assert (inputs.dtype, selected.dtype, visible.dtype) == (tokens.dtype, bool, bool)
    maskable = tokens != PAD if config.select_special else tokens < WORDS

    assert not (selected & ~maskable).any()
    assert_share(selected.sum(), maskable.sum(), config.fraction)
    np.testing.assert_array_equal(inputs[~selected], tokens[~selected])
    np.testing.assert_array_equal(visible, (tokens != PAD) & ~(selected & config.hide_selected))

    # A random word is the right one in one case of WORDS, where that is a word at all.
    words, chance = selected & (tokens < WORDS), config.random_share / WORDS
    kept_share = 1 - config.mask_share - config.random_share
    assert_share((inputs == MASK)[selected].sum(), selected.sum(), config.mask_share)
    assert_share((inputs == tokens)[words].sum(), words.sum(), kept_share + chance)
    assert_share(
        ((inputs != tokens) & (inputs != MASK))[words].sum(),
        words.sum(),
        config.random_share - chance,
    )
    assert (inputs[selected & (inputs != MASK) & (inputs != tokens)] < WORDS).all()


@pytest.mark.parametrize(
    "word_ids", [(7, 8, 9, 10), (12, 3, 900, 41), (5,)], ids=["neighbours", "scattered", "one"]
)
def test_random_words_are_drawn_from_the_ids_given(word_ids: tuple[int, ...]) -> None:
    """Vocabularies differ in where their words stand; special tokens come first in most."""
    tokens = jnp.full((400, 20), word_ids[0], jnp.int32)
    config = MaskingConfig(1.0, mask_share=0.0, random_share=1.0)
    found = mask_tokens(
        jax.random.key(0),
        tokens,
        jnp.ones_like(tokens, bool),
        config,
        mask_id=1,
        pad_id=0,
        word_ids=word_ids,
    )
    ids, counts = np.unique(found.inputs_BxT, return_counts=True)
    assert ids.tolist() == sorted(word_ids)
    assert len(ids) == 1 or stats.chisquare(counts).pvalue > SIGNIFICANCE
    assert found.inputs_BxT.dtype == tokens.dtype


def test_words_that_come_first_are_drawn_as_before() -> None:
    key = jax.random.key(3)
    np.testing.assert_array_equal(
        random_words(key, (50,), range(5), jnp.int32),
        jax.random.randint(key, (50,), 0, 5, jnp.int32),
    )


def test_random_words_are_uniform_and_positions_independent() -> None:
    tokens = np.tile(np.arange(40, dtype=np.int32) % WORDS, (5000, 1))
    inputs, selected, _ = masked(tokens, MaskingConfig(0.5, 0.0, 1.0))
    assert stats.chisquare(np.bincount(inputs[selected])).pvalue > SIGNIFICANCE
    # Under independence, correlations of positions are of order 1 / sqrt(rows); so are those of
    # rows.
    for matrix in (selected, (inputs != tokens), selected[:40].T):
        correlations = np.corrcoef(matrix.astype(float), rowvar=False) - np.eye(40)
        assert np.abs(correlations).max() < 5 / np.sqrt(len(matrix))


@given(config=configs, seed=st.integers(0, 1000), cut=st.sampled_from([1, 5]))
@settings(max_examples=20)
def test_a_row_depends_on_its_number_and_its_tokens_alone(
    config: MaskingConfig, seed: int, cut: int
) -> None:
    tokens = batch(seed, rows=8)
    whole = masked(tokens, config, seed)
    parts = [masked(tokens[:cut], config, seed), masked(tokens[cut:], config, seed, first=cut)]
    changed = tokens.copy()
    changed[cut] = batch(seed + 1, rows=1)[0]
    others = np.arange(8) != cut
    for leaf, again, *halves in zip(whole, masked(changed, config, seed), *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(halves), leaf)
        np.testing.assert_array_equal(again[others], leaf[others])


def test_defaults_are_the_paper_s() -> None:
    config = MaskingConfig()
    assert (
        config.fraction,
        config.mask_share,
        config.random_share,
        config.hide_selected,
        config.select_special,
    ) == (0.3, 0.8, 0.1, False, False)
    _, first, _ = masked(batch(0), config, seed=0)
    _, second, _ = masked(batch(0), config, seed=1)
    assert (first != second).any()
    inputs, selected, _ = masked(
        batch(0, rows=500), MaskingConfig(fraction=1.0, select_special=True)
    )
    assert selected[:, 0].all()
    assert set(inputs[:, 0].tolist()) == {BOS, MASK, *range(WORDS)}


def test_shares_that_do_not_fit_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"masking\.mask_share = 0\.8 and masking\.random_share = 0\.3 sum to more than 1",
    ):
        MaskingConfig(random_share=0.3)
    with pytest.raises(
        UserError, match=r"fraction = 1\.5: input should be less than or equal to 1"
    ):
        validate(MaskingConfig(1.5))
    with pytest.raises(UserError, match=r"fraction = 0\.0: input should be greater than 0"):
        validate(MaskingConfig(0.0))


@given(
    selected=st.integers(1, 30).flatmap(
        lambda length: st.lists(
            st.lists(st.booleans(), min_size=length, max_size=length), min_size=1, max_size=6
        )
    ),
    data=st.data(),
)
def test_packing_keeps_the_selected_positions_in_order(
    selected: list[list[bool]], data: st.DataObject
) -> None:
    """All of them where there is room, else the first; labels and mask are those of the positions,
    and no position comes twice."""
    size = data.draw(st.integers(1, len(selected[0])))
    tokens = np.random.default_rng(0).integers(0, 1000, (len(selected), len(selected[0])))
    packed = pack(jnp.asarray(tokens), jnp.asarray(selected), size)
    assert packed.at_BxP.shape == packed.labels_BxP.shape == packed.mask_BxP.shape
    assert packed.at_BxP.shape == (len(selected), size)
    for i, row in enumerate(selected):
        at, labels, mask = (np.asarray(leaf[i]) for leaf in packed)
        expected = np.flatnonzero(row)[:size]
        np.testing.assert_array_equal(at[mask], expected)
        np.testing.assert_array_equal(mask, np.arange(size) < len(expected))
        np.testing.assert_array_equal(labels, tokens[i][at])
        assert len(set(at.tolist())) == size


@given(fraction=st.floats(0.01, 1), length=st.integers(1, 600))
def test_the_room_for_selected_positions_is_enough_and_no_more(
    fraction: float, length: int
) -> None:
    size = packed_size(fraction, length)
    assert 1 <= size <= length
    assert stats.binom.sf(size, length, fraction) < OVERFLOW
    assert size == 1 or stats.binom.sf(size - 1, length, fraction) >= OVERFLOW * (1 - 1e-6)


def test_the_room_of_common_fractions() -> None:
    assert (packed_size(1.0, 128), packed_size(0.3, 4)) == (128, 4)
    assert 0.15 * 128 < packed_size(0.15, 128) < 0.4 * 128
    selected = np.random.default_rng(0).random((100_000, 128)) < 0.15
    assert selected.sum(1).max() <= packed_size(0.15, 128)


counted_configs = st.builds(
    lambda fraction, shares, whole: CountedMaskingConfig(fraction, *shares, whole_words=whole),
    st.sampled_from([0.15, 0.3, 0.5, 1.0]) | st.floats(0, 1, exclude_min=True),
    st.sampled_from([(0.8, 0.1), (1.0, 0.0), (0.0, 1.0)]) | shares,
    st.booleans(),
)
CONTINUES = (3, 4)
"""Words that are no first pieces."""


def counted(
    tokens: np.ndarray, config: CountedMaskingConfig, seed: int = 0, first: int = 0
) -> tuple[np.ndarray, ...]:
    found = mask_count(
        jax.random.key(seed),
        jnp.asarray(tokens),
        jnp.asarray(tokens < WORDS),
        config,
        mask_id=MASK,
        pad_id=PAD,
        word_ids=range(WORDS),
        begins_word_BxT=jnp.asarray((tokens < WORDS) & ~np.isin(tokens, CONTINUES)),
        first=first,
    )
    return tuple(map(np.asarray, found))


def whole_words(row: np.ndarray) -> list[list[int]]:
    """The positions of each word of a row; one that is cut off at the front is a word, too."""
    found: list[list[int]] = []
    for place in np.flatnonzero(row < WORDS).tolist():
        if row[place] in CONTINUES and found and found[-1][-1] == place - 1:
            found[-1].append(place)
        else:
            found.append([place])
    return found


@given(config=counted_configs, seed=st.integers(0, 1000))
@settings(max_examples=40)
def test_a_fixed_number_of_words_is_selected(config: CountedMaskingConfig, seed: int) -> None:
    tokens = batch(seed)
    inputs, selected, visible = counted(tokens, config, seed)
    words = tokens < WORDS
    sizes = [counted_size(config.fraction, int(of_row.sum())) for of_row in words]
    np.testing.assert_array_equal(selected.sum(1), sizes)
    assert not (selected & ~words).any()
    np.testing.assert_array_equal(inputs[~selected], tokens[~selected])
    np.testing.assert_array_equal(visible, tokens != PAD)
    assert (inputs[selected & (inputs != MASK)] < WORDS).all()

    chance = config.random_share / WORDS
    kept_share = 1 - config.mask_share - config.random_share
    assert_share((inputs == MASK)[selected].sum(), selected.sum(), config.mask_share)
    assert_share((inputs == tokens)[selected].sum(), selected.sum(), kept_share + chance)
    if not config.whole_words:
        return
    for row, chosen in zip(tokens, selected, strict=True):
        parted = 0
        for places in whole_words(row):
            own = chosen[places]
            assert (own == np.sort(own)[::-1]).all()  # first pieces first
            parted += 0 < own.sum() < len(own)
        assert parted <= 1


@given(fraction=st.floats(0, 1, exclude_min=True), num_words=st.integers(1, 600))
def test_the_number_of_words_is_the_rounded_fraction_or_one(
    fraction: float, num_words: int
) -> None:
    size = counted_size(fraction, num_words)
    assert 1 <= size <= num_words
    assert size == 1 or abs(size - fraction * num_words) <= 0.5
    assert counted_size(fraction, num_words - 1) <= size


def test_numbers_of_words_of_common_rows() -> None:
    assert [counted_size(0.3, words) for words in (0, 1, 5, 30, 126)] == [0, 1, 2, 9, 38]
    assert [counted_size(0.15, words) for words in (3, 30, 126)] == [1, 5, 19]


@pytest.mark.parametrize("whole", [False, True])
def test_all_positions_and_all_words_are_selected_alike(whole: bool) -> None:
    """Words of one piece each: every set of so many is as probable. Two of six pieces, of words of
    one, two and three: the order of the words decides."""
    tokens = np.tile(np.asarray([BOS, 0, 1, 3, 2, 4, 3, EOS], np.int32), (60_000, 1))
    _, selected, _ = counted(tokens, CountedMaskingConfig(1 / 3, whole_words=whole))
    pairs, counts = np.unique(selected, axis=0, return_counts=True)
    found = [tuple(np.flatnonzero(pair).tolist()) for pair in pairs]
    if not whole:
        assert len(found) == 15
        assert stats.chisquare(counts).pvalue > SIGNIFICANCE
        return
    # Six orders of the words (1), (2, 3) and (4, 5, 6).
    expected: dict[tuple[int, ...], float] = {
        (1, 2): 1 / 6,
        (2, 3): 1 / 3,
        (1, 4): 1 / 6,
        (4, 5): 1 / 3,
    }
    assert set(found) == set(expected)
    shares = np.asarray([expected[pair] for pair in found])
    assert stats.chisquare(counts, counts.sum() * shares).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("whole", [False, True])
def test_a_counted_row_depends_on_its_number_and_its_tokens_alone(whole: bool) -> None:
    tokens, config = batch(0, rows=8), CountedMaskingConfig(0.3, whole_words=whole)
    together = counted(tokens, config, 3)
    parts = [counted(tokens[:5], config, 3), counted(tokens[5:], config, 3, first=5)]
    for leaf, *halves in zip(together, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(halves), leaf)
    assert (counted(tokens, config, 4)[1] != together[1]).any()


def test_shares_of_counted_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"masking\.random_share = 0\.3 sum to more than 1"):
        CountedMaskingConfig(random_share=0.3)
