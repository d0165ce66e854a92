"""A query with nothing to see has one answer on every path, with gradients that are numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from common.nn import attention
from common.nn.bert import functional_bert
from common.nn.blocks import TokenInputs
from common.nn.functional import Functional, Params
from common.nn.gpt2 import GPT2Config, functional_gpt2
from common.sequence.masking import MaskingConfig, mask_tokens
from common.train.losses import label_cross_entropy
from pcfg.config import bert
from tests.conftest import random_params

LENGTH, HEADS, SIZE = 6, 2, 3
SEES_NOTHING = 2
"""The sequence whose queries see nothing."""


def arrays() -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Queries, keys and values of four sequences, and a mask that hides the whole of one."""
    keys = jax.random.split(jax.random.key(0), 3)
    q, k, v = (jax.random.normal(key, (4, LENGTH, HEADS, SIZE)) for key in keys)
    visible = np.random.default_rng(0).random((4, LENGTH)) < 0.6
    visible[:, 0], visible[SEES_NOTHING] = True, False
    return q, k, v, jnp.asarray(visible)[:, None, None, :]


def dropping(rate: float) -> attention.Drop:
    return nnx.Dropout(rate), nnx.Rngs(dropout=jax.random.key(1))


@pytest.mark.parametrize(
    ("rate", "in_slices", "is_causal"),
    [(None, False, True), (None, True, False), (1e-7, False, False), (1e-7, True, True)],
)
def test_nothing_is_gathered_where_nothing_is_seen(
    rate: float | None, in_slices: bool, is_causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v, mask = arrays()
    if in_slices:
        monkeypatch.setattr(attention, "MAX_WEIGHTS", 1)

    def gather(*qkv: jax.Array) -> jax.Array:
        q, k, v = qkv
        return attention.gather_in_slices(
            q, k, v, mask, is_causal, None if rate is None else dropping(rate)
        )

    @jax.jit
    def with_gradients(*qkv: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        return gather(*qkv), jax.grad(lambda *qkv: jnp.sum(gather(*qkv) ** 2), argnums=(0, 1, 2))(
            *qkv
        )

    y_BxQxHxK, gradients = with_gradients(q, k, v)
    np.testing.assert_array_equal(y_BxQxHxK[SEES_NOTHING], 0)
    assert (np.abs(np.delete(y_BxQxHxK, SEES_NOTHING, 0)).max(axis=(1, 2, 3)) > 0).all()
    expected = jax.jit(lambda q, k, v: attention.gather(q, k, v, mask, is_causal, None))(q, k, v)
    np.testing.assert_allclose(y_BxQxHxK, expected, rtol=1e-4, atol=1e-5)
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[SEES_NOTHING], 0)


def test_a_causal_query_whose_own_past_is_hidden_gathers_nothing() -> None:
    """Padding before a sentence: the first queries see hidden keys, and keys that are yet to
    come."""
    q, k, v, _ = arrays()
    mask = jnp.broadcast_to(jnp.arange(LENGTH) >= 2, (4, 1, 1, LENGTH))

    @jax.jit
    def gather_all() -> list[jax.Array]:
        past = attention.gather(q[:, 2:], k[:, 2:], v[:, 2:], None, True, None)
        return [
            past,
            *(attention.gather(q, k, v, mask, True, drop) for drop in (None, dropping(1e-7))),
        ]

    past_BxQxHxK, *found = gather_all()
    for y_BxQxHxK in found:
        np.testing.assert_array_equal(y_BxQxHxK[:, :2], 0)
        np.testing.assert_allclose(y_BxQxHxK[:, 2:], past_BxQxHxK, rtol=1e-4, atol=1e-5)


def test_models_agree_on_a_sentence_that_is_hidden_altogether() -> None:
    """All positions and one of them, with and without dropout."""
    vocabulary, batch = 2, 32
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, vocabulary, (batch, LENGTH)))
    inputs = TokenInputs(tokens, jnp.ones((batch, LENGTH), bool).at[SEES_NOTHING].set(False))
    at_last, key = inputs._replace(at_BxP=jnp.full((batch, 1), LENGTH - 1)), jax.random.key(0)

    def model(rate: float) -> Functional:
        return functional_gpt2(GPT2Config(heads=2, layers=1, dropout=rate), vocabulary, LENGTH, 3)

    @jax.jit
    def by_all_paths(params: Params) -> tuple[jax.Array, ...]:
        return (
            model(0.0).apply(params, inputs)[:, -1],
            model(0.0).apply(params, at_last)[:, 0],
            model(1e-7).apply(params, inputs, key)[:, -1],
            model(1e-7).apply(params, at_last, key)[:, 0],
        )

    whole, *others = by_all_paths(random_params(model(0.0).init, 0.3))
    assert np.isfinite(whole).all()
    for other in others:
        np.testing.assert_allclose(other, whole, rtol=1e-3, atol=1e-4)


def test_training_on_sentences_that_are_hidden_altogether() -> None:
    """Every token is selected and none of the selected may be seen: the loss of a BERT and all its
    gradients are numbers."""
    word, mask, pad = 0, 1, 2
    tokens = jnp.full((4, LENGTH), word)
    masking = MaskingConfig(1.0, hide_selected=True, select_special=True)
    batch = mask_tokens(
        jax.random.key(0),
        tokens,
        tokens == word,
        masking,
        mask_id=mask,
        pad_id=pad,
        word_ids=(word,),
    )
    assert not batch.visible_BxT.any()
    model = functional_bert(bert(1, layers=1, dropout=0.1), 3, LENGTH)

    def loss(params: Params) -> jax.Array:
        return jnp.mean(
            label_cross_entropy(
                model.apply(
                    params, TokenInputs(batch.inputs_BxT, batch.visible_BxT), jax.random.key(1)
                ),
                tokens,
            )
        )

    value, gradients = jax.jit(jax.value_and_grad(loss))(jax.jit(model.init)(jax.random.key(0)))
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert (np.abs(gradients["position"]["embedding"]) > 0).any(), (
        "what is left are the positions, and they learn"
    )
