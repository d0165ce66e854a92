"""Logits asked for at some positions: what the whole computation gives there, and no look ahead."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from common.nn.bert import BERT, BERTConfig, functional_bert
from common.nn.blocks import TokenInputs
from common.nn.functional import Functional, Params
from common.nn.gpt2 import GPT2, GPT2Config, functional_gpt2
from tests.conftest import random_params

VOCABULARY, LENGTH, BATCH = 3, 9, 9
ARCHITECTURES = ("gpt2", "bert")
AT = np.concatenate(
    [
        np.full((BATCH, 1), LENGTH - 1),
        np.arange(BATCH)[:, None],
        np.random.default_rng(2).integers(0, LENGTH, (BATCH, 4)),
    ],
    axis=1,
)
"""The last position, another one of each sequence, and some in no order, which may come twice."""
VISIBLE = (np.random.default_rng(1).random((BATCH, LENGTH)) < 0.7) | (np.arange(LENGTH) == 0)


def functional_of(architecture: str, layers: int) -> Functional:
    if architecture == "gpt2":
        return functional_gpt2(GPT2Config(heads=2, layers=layers), VOCABULARY, LENGTH, 4)
    return functional_bert(BERTConfig(heads=2, layers=layers), VOCABULARY, LENGTH)


def module_of(architecture: str, layers: int) -> GPT2 | BERT:
    rngs = nnx.Rngs(params=jax.random.key(0))
    if architecture == "gpt2":
        return GPT2(GPT2Config(heads=2, layers=layers), VOCABULARY, LENGTH, 3, rngs=rngs)
    return BERT(BERTConfig(heads=2, layers=layers), VOCABULARY, LENGTH, rngs=rngs)


def difference(ours: jax.Array, theirs: jax.Array) -> float:
    """Relative to the whole array."""
    return float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-3))


@pytest.mark.parametrize("is_padded", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_are_those_of_the_whole_computation(
    architecture: str, layers: int, is_padded: bool
) -> None:
    """And so are the gradients, both to 1e-6."""
    model = functional_of(architecture, layers)
    params = random_params(model.init, 0.1)
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, VOCABULARY, (BATCH, LENGTH)))
    visible, at_BxP = jnp.asarray(VISIBLE) if is_padded else None, jnp.asarray(AT)

    @functools.partial(jax.grad, has_aux=True)
    def whole(params: Params) -> tuple[jax.Array, jax.Array]:
        logits_BxTxC = model.apply(params, TokenInputs(tokens, visible))
        logits_BxPxC = jnp.take_along_axis(logits_BxTxC, at_BxP[:, :, None], axis=1)
        return jnp.sum(jnp.sin(logits_BxPxC)), logits_BxPxC

    @functools.partial(jax.grad, has_aux=True)
    def asked(params: Params) -> tuple[jax.Array, jax.Array]:
        logits_BxPxC = model.apply(params, TokenInputs(tokens, visible, at_BxP))
        return jnp.sum(jnp.sin(logits_BxPxC)), logits_BxPxC

    (theirs, logits_BxPxC), (ours, own_BxPxC) = (jax.jit(f)(params) for f in (whole, asked))
    assert own_BxPxC.shape == (*AT.shape, logits_BxPxC.shape[-1])
    assert difference(own_BxPxC, logits_BxPxC) < 1e-6
    np.testing.assert_allclose(own_BxPxC, logits_BxPxC, rtol=1e-4, atol=1e-5)
    assert max(jax.tree.leaves(jax.tree.map(difference, ours, theirs))) < 1e-6


@pytest.mark.parametrize("is_padded", [False, True])
@pytest.mark.parametrize("are_asked_for", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_position_sees_what_it_may(
    architecture: str, layers: int, are_asked_for: bool, is_padded: bool
) -> None:
    """d logits[t] / d embedding[u] is exactly zero for u > t of GPT-2, and non-zero otherwise;
    padding is seen by itself alone."""
    model = module_of(architecture, layers)
    x_1xTxM = model.embed(jnp.asarray([[0, 1, 2, 1, 0, 2, 2]]))
    length = x_1xTxM.shape[1]
    backwards_T = np.arange(length)[::-1].copy()
    at_1xP = jnp.asarray(backwards_T)[None] if are_asked_for else None
    visible_T = np.arange(length) != 2 if is_padded else np.ones(length, bool)
    mask_1x1x1xT = jnp.asarray(visible_T)[None, None, None] if is_padded else None

    def weighted(x_1xTxM: jax.Array) -> jax.Array:
        logits_PxC = model.read(x_1xTxM, mask_1x1x1xT, at_1xP)[0]
        return jnp.sum(logits_PxC * jnp.arange(1.0, 4)[None], axis=-1)

    reached_PxT = np.abs(jax.jit(jax.jacobian(weighted))(x_1xTxM)[:, 0]).max(-1)
    t_Px1 = (backwards_T if are_asked_for else np.arange(length))[:, None]
    u_1xT = np.arange(length)[None]
    may_see_PxT = (u_1xT <= t_Px1) if architecture == "gpt2" else np.ones((length, length), bool)
    sees_PxT = (may_see_PxT & visible_T[None]) | (u_1xT == t_Px1)
    assert (reached_PxT[sees_PxT] > 0).all()
    assert (reached_PxT[~sees_PxT] == 0).all()
