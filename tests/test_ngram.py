"""M_robust and M_close: of models whose answers are known, and the windows they look through."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.base.errors import UserError
from common.nn.blocks import TokenInputs
from common.nn.functional import Params
from common.sequence.ngram import Target, in_window, pairs_of, probe, total_variation, window

BOS, EOS, PAD, MASK, VOCABULARY = 3, 4, 5, 6, 7


def sentences(lengths: list[int], seed: int = 0) -> np.ndarray:
    tokens = np.full((len(lengths), max(lengths) + 2), PAD)
    for row, length in zip(tokens, lengths, strict=True):
        row[0], row[1 : length + 1], row[length + 1] = (
            BOS,
            np.random.default_rng(seed + length).integers(0, 3, length),
            EOS,
        )
    return tokens


def test_windows_are_the_papers() -> None:
    assert {n: window(n) for n in (1, 2, 3, 4, 5)} == {
        1: (0, 0),
        2: (-1, 0),
        3: (-1, 1),
        4: (-2, 1),
        5: (-2, 2),
    }


@given(st.integers(1, 12), st.integers(0, 30))
def test_a_window_has_its_size(n: int, position: int) -> None:
    inside = np.asarray(in_window(jnp.asarray([position]), 50, n))[0]
    first, last = window(n)
    assert first <= 0 <= last and last - first + 1 == n
    assert set(np.flatnonzero(inside)) == {
        p for p in range(position + first, position + last + 1) if p >= 0
    }


@given(
    st.lists(st.integers(1, 15), min_size=1, max_size=8),
    st.sets(st.integers(0, 16), min_size=1),
    st.integers(1, 7),
)
def test_pairs_are_where_windows_fit(lengths: list[int], positions: set[int], n: int) -> None:
    tokens = sentences(lengths)
    positions = {p for p in positions if p < tokens.shape[1]}
    expected = {
        (b, p)
        for b, length in enumerate(lengths)
        for p in positions
        if p + window(n)[0] >= 1 and p + window(n)[1] <= length
    }
    if not expected:
        if positions:
            with pytest.raises(UserError):
                pairs_of(
                    jnp.asarray(tokens), jnp.asarray(tokens < 3), PAD, sorted(positions), (1, n)
                )
        return
    pairs = pairs_of(jnp.asarray(tokens), jnp.asarray(tokens < 3), PAD, sorted(positions), (1, n))
    assert set(zip(pairs.sentence_P.tolist(), pairs.position_P.tolist(), strict=True)) == expected
    np.testing.assert_array_equal(pairs.tokens_PxT, tokens[pairs.sentence_P])
    np.testing.assert_array_equal(pairs.visible_PxT, tokens[pairs.sentence_P] != PAD)


@given(
    st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=6),
    st.sets(st.integers(0, 11), min_size=1),
    st.lists(st.integers(1, 6), min_size=1, max_size=2),
)
def test_a_window_holds_nothing_but_words(
    words: list[list[bool]], positions: set[int], sizes: list[int]
) -> None:
    """Wherever special tokens stand: between the sentences of a pair, say."""
    tokens = np.where(words, 1, EOS)

    def fits(row: list[bool], position: int) -> bool:
        covered = [
            position + offset for n in sizes for offset in range(window(n)[0], window(n)[1] + 1)
        ]
        return all(0 <= place < 12 and row[place] for place in covered)

    expected = {
        (i, position)
        for i, row in enumerate(words)
        for position in positions
        if fits(row, position)
    }
    try:
        pairs = pairs_of(jnp.asarray(tokens), jnp.asarray(words), PAD, sorted(positions), sizes)
    except UserError:
        assert not expected
        return
    assert set(zip(pairs.sentence_P.tolist(), pairs.position_P.tolist(), strict=True)) == expected


def test_impossible_windows_and_positions(refused_pairs=((50, 3), (3, 30))) -> None:
    tokens = jnp.asarray(sentences([9, 12]))
    for (position, n), message in zip(
        refused_pairs, ("position 50 lies outside", "window of 30 tokens is wider"), strict=True
    ):
        with pytest.raises(UserError, match=message):
            pairs_of(tokens, tokens < 3, PAD, (position,), (n,))
    with pytest.raises(UserError, match="no sentence has a window"):
        pairs_of(tokens, tokens < 3, PAD, (1,), (3,))


def at_position(logits_PxTxV: jax.Array, inputs: TokenInputs) -> jax.Array:
    assert inputs.at_BxP is not None
    return jnp.take_along_axis(logits_PxTxV, inputs.at_BxP[:, :, None], axis=1)


def looks_at(offset: int):
    """A model that answers with the token at a distance, and with MASK if that is hidden."""

    def apply(params: Params, inputs: TokenInputs) -> jax.Array:
        return at_position(
            30.0 * jax.nn.one_hot(jnp.roll(inputs.tokens_BxT, -offset, axis=1), VOCABULARY), inputs
        )

    return apply


@pytest.mark.parametrize("offset", [-3, -2, -1, 1, 2])
def test_a_model_that_looks_at_one_place(offset: int) -> None:
    """It notices when that place is in the masked window (robust), or out of the one that is left
    (close); else nothing changes. Whether its own place is masked is nothing to it."""
    tokens, sizes = jnp.asarray(sentences([12, 14, 20])), (1, 2, 3, 4, 5, 7)
    pairs = pairs_of(tokens, tokens < 3, PAD, range(5, 12), sizes)
    for target in get_args(Target):
        robust_ZxP, close_ZxP = probe(
            looks_at(offset), {}, pairs, sizes, MASK, hide_masked=False, target=target
        )
        for n, robust_P, close_P in zip(sizes, robust_ZxP, close_ZxP, strict=True):
            covered = window(n)[0] <= offset <= window(n)[1]
            np.testing.assert_allclose(robust_P, 1.0 if covered else 0.0, atol=1e-6)
            np.testing.assert_allclose(close_P, 0.0 if covered else 1.0, atol=1e-6)


def test_a_model_that_copies_what_it_sees() -> None:
    """Of a token that is masked it knows nothing, of a visible one all: neither moves."""
    tokens = jnp.asarray(sentences([12, 14, 20]))
    pairs = pairs_of(tokens, tokens < 3, PAD, range(5, 12), (2, 5))
    for target in get_args(Target):
        found = probe(looks_at(0), {}, pairs, (2, 5), MASK, hide_masked=False, target=target)
        np.testing.assert_allclose(found, 0.0, atol=1e-6)


def test_masked_tokens_are_hidden_from_a_model_trained_so() -> None:
    """A model that answers with the number of tokens it may attend to."""

    def counts(params: Params, inputs: TokenInputs) -> jax.Array:
        assert inputs.visible_BxT is not None
        return 30.0 * jax.nn.one_hot(inputs.visible_BxT.sum(1), 32)[:, None]

    tokens = jnp.asarray(sentences([12]))
    pairs = pairs_of(tokens, tokens < 3, PAD, (6,), (1, 3))
    np.testing.assert_allclose(
        probe(counts, {}, pairs, (1, 3), MASK, hide_masked=False), 0.0, atol=1e-6
    )
    # The window of one token hides what was hidden before; every other mask hides more.
    np.testing.assert_allclose(
        probe(counts, {}, pairs, (1, 3), MASK, hide_masked=True)[:, :, 0],
        [[0, 1], [1, 1]],
        atol=1e-6,
    )


@pytest.mark.parametrize("target", get_args(Target))
def test_against_a_loop_over_pairs(target: Target) -> None:
    """A model without structure, each mask written out by hand, in float64."""
    weights = np.random.default_rng(0).standard_normal((VOCABULARY, 5, VOCABULARY))

    def apply(params: Params, inputs: TokenInputs) -> jax.Array:
        around = [jnp.roll(inputs.tokens_BxT, shift, axis=1) for shift in range(-2, 3)]
        return at_position(
            sum(
                (
                    jnp.asarray(weights[:, i], jnp.float32)[tokens]
                    for i, tokens in enumerate(around)
                ),
                jnp.float32(0),
            ),
            inputs,
        )

    def by_hand(tokens: np.ndarray, position: int) -> np.ndarray:
        logits = sum(
            weights[np.roll(tokens, shift)[position], i] for i, shift in enumerate(range(-2, 3))
        )
        return np.exp(logits) / np.exp(logits).sum()

    tokens, sizes = sentences([12, 9]), (2, 3, 5)
    pairs = pairs_of(jnp.asarray(tokens), jnp.asarray(tokens < 3), PAD, (4, 6), sizes)
    found = probe(apply, {}, pairs, sizes, MASK, hide_masked=False, target=target)
    for i, (sentence, position) in enumerate(
        zip(pairs.sentence_P, pairs.position_P.tolist(), strict=True)
    ):
        row = tokens[sentence]
        own = MASK if target == "masked" else row[position]
        alone = row.copy()
        alone[position] = own
        for j, n in enumerate(sizes):
            inside = range(position + window(n)[0], position + window(n)[1] + 1)
            robust = np.asarray([MASK if t in inside else token for t, token in enumerate(row)])
            close = np.asarray(
                [
                    MASK if (t not in inside and token < 3) or t == position else token
                    for t, token in enumerate(row)
                ]
            )
            robust[position] = close[position] = own
            for kind, other in ((0, robust), (1, close)):
                expected = np.abs(by_hand(alone, position) - by_hand(other, position)).sum() / 2
                assert found[kind, j, i] == pytest.approx(expected, abs=1e-5)


@given(
    st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
    st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
)
def test_total_variation_is_the_largest_difference_of_an_event(
    p: list[float], q: list[float]
) -> None:
    p_C, q_C = np.asarray(p) / sum(p), np.asarray(q) / sum(q)
    events = [[0], [1], [2], [0, 1], [0, 2], [1, 2]]
    assert float(total_variation(jnp.asarray(p_C), jnp.asarray(q_C))) == pytest.approx(
        max(abs(p_C[e].sum() - q_C[e].sum()) for e in events), abs=1e-6
    )
