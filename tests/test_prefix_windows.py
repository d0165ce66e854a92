"""Causal windows of a prefix: what is removed is removed in every layer, and nothing else."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from common.nn.blocks import TokenInputs
from common.nn.gpt2 import GPT2, GPT2Config, functional_gpt2
from common.sequence.prefix_windows import left_for_close, left_for_robust, probe
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
