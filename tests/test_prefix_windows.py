"""Causal windows of a prefix: what is removed is removed in every layer, and nothing else."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from common.base.errors import UserError
from common.nn.blocks import TokenInputs
from common.nn.gpt2 import GPT2, GPT2Config, functional_gpt2
from common.sequence.prefix_windows import left_for_close, left_for_robust, prefixes_of, probe
from tests.conftest import random_params

VOCABULARY, LENGTH = 7, 12
CONFIG = GPT2Config(2, layers=3)
MODEL = functional_gpt2(CONFIG, VOCABULARY, LENGTH, VOCABULARY)
PARAMS = random_params(MODEL.init, 0.4)
TOKENS = jax.random.randint(jax.random.key(0), (5, LENGTH), 0, VOCABULARY)


@given(position=st.integers(1, LENGTH - 1), n=st.integers(1, LENGTH))
def test_what_is_left(position: int, n: int) -> None:
    """By the words of the definition, position by position."""
    at = jnp.asarray([position])
    last_n = set(range(max(position - n + 1, 1), position + 1))
    before = set(range(1, position + 1)) - last_n
    robust, close = (
        set(np.flatnonzero(left(at, LENGTH, n)[0])) for left in (left_for_robust, left_for_close)
    )
    assert close == {0} | last_n
    assert robust == {0} | before | {position}


@pytest.mark.parametrize("left", [left_for_robust, left_for_close])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_no_layer_sees_what_is_removed(
    left: Callable[[jax.Array, int, int], jax.Array], n: int
) -> None:
    """The gradient of the logits by what is embedded at a removed position is exactly zero, and at
    one that is left it is not."""
    position_P = jnp.asarray([3, 5, 8, 10, 11])
    left_PxT = left(position_P, LENGTH, n)
    model = GPT2(CONFIG, VOCABULARY, LENGTH, VOCABULARY, rngs=nnx.Rngs(0))
    nnx.update(model, PARAMS)
    x_PxTxM = model.embed(TOKENS)

    def summed(x_PxTxM: jax.Array) -> jax.Array:
        weights = jnp.arange(1.0, VOCABULARY + 1)[None, None]
        logits_Px1xV = model.read(x_PxTxM, left_PxT[:, None, None, :], position_P[:, None])
        return jnp.sum(logits_Px1xV * weights)

    size_PxT = np.abs(jax.grad(summed)(x_PxTxM)).max(axis=-1)
    seen_PxT = np.asarray(left_PxT) & (np.arange(LENGTH)[None] <= position_P[:, None])
    assert np.all(size_PxT[~seen_PxT] == 0)
    assert np.all(size_PxT[seen_PxT] > 0)


def test_distances_are_those_of_shorter_inputs_where_positions_allow() -> None:
    """close(n) of a prefix of n tokens is zero, for nothing is removed; so is robust(1)."""
    position_P = jnp.asarray([3, 3, 3, 3, 3])
    values_2xZxP = np.asarray(probe(MODEL.apply, PARAMS, TOKENS, position_P, (1, 2, 3)))
    robust_ZxP, close_ZxP = values_2xZxP
    np.testing.assert_array_equal(robust_ZxP[0], 0)
    np.testing.assert_array_equal(close_ZxP[2], 0)
    assert np.all(robust_ZxP[1:] > 1e-3)
    assert np.all(close_ZxP[:2] > 1e-3)
    assert np.all(values_2xZxP <= 1)


def test_distances_by_hand() -> None:
    """Of one prefix: half the sum of differences, from two forward passes with masks set here."""
    position, n = 7, 3
    values_2xZxP = probe(MODEL.apply, PARAMS, TOKENS[:1], jnp.asarray([position]), (n,))
    whole = MODEL.apply(PARAMS, TokenInputs(TOKENS[:1]))[0, position]
    for value, removed in zip(values_2xZxP[:, 0, 0], ([5, 6], [1, 2, 3, 4]), strict=True):
        visible_1xT = ~np.isin(np.arange(LENGTH), removed)[None]
        other = MODEL.apply(PARAMS, TokenInputs(TOKENS[:1], jnp.asarray(visible_1xT)))[0, position]
        p, q = (
            np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in map(np.float64, (whole, other))
        )
        assert float(value) == pytest.approx(np.abs(p - q).sum() / 2, abs=1e-6)


@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("is_asked_alone", [True, False])
def test_the_forward_pass_of_the_probe_sees_nothing_of_what_is_removed(
    is_asked_alone: bool, layers: int
) -> None:
    """Whatever its depth, asked at one position, or everywhere and read there: the derivative of
    every logit by the embedding of a removed token's position, of which no other token has a part,
    is exactly zero. By those of the others it is not."""
    model = functional_gpt2(GPT2Config(2, layers=layers), VOCABULARY, LENGTH, VOCABULARY)
    params = random_params(model.init, 0.4)
    position = 8
    at_1xP = jnp.asarray([[position]]) if is_asked_alone else None

    def logits(table_TxM: jax.Array, left_1xT: jax.Array) -> jax.Array:
        moved = params | {"position": params["position"] | {"embedding": table_TxM}}
        found_1xPxV = model.apply(moved, TokenInputs(TOKENS[:1], left_1xT, at_1xP))
        return found_1xPxV[0, 0 if is_asked_alone else position]

    derivative = jax.jit(jax.jacobian(logits))
    for left, n in itertools.product((left_for_robust, left_for_close), (2, 4)):
        left_1xT = left(jnp.asarray([position]), LENGTH, n)
        by_position_VxTxM = np.asarray(derivative(params["position"]["embedding"], left_1xT))
        size_VxT = np.abs(by_position_VxTxM).max(axis=-1)
        seen_T = np.asarray(left_1xT[0]) & (np.arange(LENGTH) <= position)
        assert np.all(size_VxT[:, ~seen_T] == 0)
        assert np.all(size_VxT[:, seen_T] > 0)


def test_distances_of_a_model_made_by_hand() -> None:
    """Each token that is left votes for tokens, by how far back it stands; in 64 bits."""
    rng = np.random.default_rng(0)
    votes_TxVxV = rng.normal(size=(LENGTH, VOCABULARY, VOCABULARY)).astype(np.float32)
    tokens_PxT = rng.integers(0, VOCABULARY, (6, LENGTH))
    position_P = np.asarray([5, 6, 7, 8, 10, 11])
    sizes = (1, 2, 3, 5)

    def apply(params: dict, inputs: TokenInputs) -> jax.Array:
        assert inputs.visible_BxT is not None and inputs.at_BxP is not None
        back_BxT = inputs.at_BxP - jnp.arange(LENGTH)[None]
        votes_BxTxV = params["votes"][back_BxT.clip(0), inputs.tokens_BxT]
        counts_BxT = inputs.visible_BxT & (back_BxT >= 0)
        return jnp.sum(votes_BxTxV * counts_BxT[..., None], axis=1, keepdims=True)

    def answer(row: int, left: list[int]) -> np.ndarray:
        back = [position_P[row] - t for t in left]
        logits_V = np.asarray(votes_TxVxV, np.float64)[back, tokens_PxT[row, left]].sum(axis=0)
        return np.exp(logits_V) / np.exp(logits_V).sum()

    params = {"votes": jnp.asarray(votes_TxVxV)}
    found_2xZxP = probe(apply, params, jnp.asarray(tokens_PxT), jnp.asarray(position_P), sizes)
    for p, (z, n) in itertools.product(range(6), enumerate(sizes)):
        last = position_P[p]
        whole = answer(p, list(range(last + 1)))
        robust = answer(p, [*range(last - n + 1), last])
        close = answer(p, [0, *range(last - n + 1, last + 1)])
        expected = [np.abs(other - whole).sum() / 2 for other in (robust, close)]
        np.testing.assert_allclose(found_2xZxP[:, z, p], expected, atol=1e-6)
    assert np.all(np.asarray(found_2xZxP)[1, :3] > 0.01)


@given(
    asked=st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=4),
    largest=st.integers(1, 9),
    spacing=st.integers(1, 4),
    by_position=st.booleans(),
)
def test_prefixes_end_before_what_is_predicted(
    asked: list[list[bool]], largest: int, spacing: int, by_position: bool
) -> None:
    """By the words of the definition, sentence by sentence."""
    expected = []
    for b, row in enumerate(asked):
        fits = [t for t in range(largest, 8) if row[t + 1]]
        chosen = [t for t in fits if t % spacing == 0] if by_position else fits[::spacing]
        expected += [(b, t) for t in chosen]
    tokens_BxT = jnp.arange(len(asked) * 9).reshape(-1, 9)
    sizes = (1, largest)
    if not expected:
        with pytest.raises(UserError, match="give"):
            prefixes_of(tokens_BxT, jnp.asarray(asked), sizes, spacing, by_position=by_position)
        return
    found = prefixes_of(tokens_BxT, jnp.asarray(asked), sizes, spacing, by_position=by_position)
    ends = list(zip(found.sentence_P.tolist(), found.position_P.tolist(), strict=True))
    assert ends == expected
    np.testing.assert_array_equal(found.tokens_PxT, tokens_BxT[found.sentence_P])
