"""A query with nothing to see has one answer on every path, with gradients that are numbers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from common import attention
from common.config import TrainingConfig
from common.engine import ScanEngine
from common.masking import MaskingConfig
from common.optim import OptimConfig
from common.transformer import TokenInputs, TransformerConfig, functional_transformer
from pcfg.config import TrainConfig, bert, teacher_problem
from pcfg.data import PCFGData
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


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("in_slices", [False, True])
@pytest.mark.parametrize("rate", [None, 1e-7, 0.3])
def test_nothing_is_gathered_where_nothing_is_seen(rate: float | None, in_slices: bool, is_causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v, mask = arrays()
    if in_slices:
        monkeypatch.setattr(attention, "MAX_WEIGHTS", 1)

    def gather(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return attention.gather_in_slices(q, k, v, mask, is_causal, None if rate is None else dropping(rate))

    y_BxQxHxK = gather(q, k, v)
    np.testing.assert_array_equal(y_BxQxHxK[SEES_NOTHING], 0)
    assert (np.abs(np.delete(y_BxQxHxK, SEES_NOTHING, 0)).max(axis=(1, 2, 3)) > 0).all()
    if rate != 0.3:
        expected = attention.gather(q, k, v, mask, is_causal, None)
        np.testing.assert_allclose(y_BxQxHxK, expected, rtol=1e-4, atol=1e-5)
    for gradient in jax.grad(lambda *qkv: jnp.sum(gather(*qkv) ** 2), argnums=(0, 1, 2))(q, k, v):
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[SEES_NOTHING], 0)


def test_a_causal_query_whose_own_past_is_hidden_gathers_nothing() -> None:
    """Padding before a sentence: the first queries see hidden keys, and keys that are yet to come."""
    q, k, v, _ = arrays()
    mask = jnp.broadcast_to(jnp.arange(LENGTH) >= 2, (4, 1, 1, LENGTH))
    for drop in (None, dropping(1e-7)):
        y_BxQxHxK = attention.gather(q, k, v, mask, True, drop)
        np.testing.assert_array_equal(y_BxQxHxK[:, :2], 0)
        np.testing.assert_allclose(y_BxQxHxK[:, 2:], attention.gather(q[:, 2:], k[:, 2:], v[:, 2:], None, True, None), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("causal", [True, False])
def test_models_agree_on_a_sentence_that_is_hidden_altogether(causal: bool, norm: str) -> None:
    """All positions, one of them, the last of one block by its tokens, with and without dropout."""
    vocabulary, batch = 2, 32  # few tokens for so many sequences
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, vocabulary, (batch, LENGTH)))
    visible = jnp.ones((batch, LENGTH), bool).at[SEES_NOTHING].set(False)
    inputs = TokenInputs(tokens, visible)

    def model(rate: float, *, last_only: bool) -> Callable[..., jax.Array]:
        config = TransformerConfig(heads=2, layers=1, causal=causal, norm=norm, dropout=rate)  # type: ignore[arg-type]
        return functional_transformer(config, vocabulary, LENGTH, 3, last_only=last_only).apply

    config = TransformerConfig(heads=2, layers=1, causal=causal, norm=norm)  # type: ignore[arg-type]
    params = random_params(functional_transformer(config, vocabulary, LENGTH, 3).init, 0.3)
    whole = model(0.0, last_only=False)(params, inputs)[:, -1]
    others = (
        model(0.0, last_only=True)(params, inputs),
        model(0.0, last_only=False)(params, inputs._replace(at_B=jnp.full(batch, LENGTH - 1))),
        model(1e-7, last_only=True)(params, inputs, jax.random.key(0)),
        model(1e-7, last_only=False)(params, inputs, jax.random.key(0))[:, -1],
    )
    assert np.isfinite(whole).all()
    for other in others:
        np.testing.assert_allclose(other, whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_training_on_sentences_that_are_hidden_altogether(dropout: float) -> None:
    """Every token is selected and none of the selected may be seen: what is left are the positions, and they train."""
    masking = MaskingConfig(1.0, hide_selected=True, select_special=True)
    training = TrainingConfig(steps=6, batch_size=4, eval_every=6, eval_examples=8)
    optim = OptimConfig((1e-2,), kind="adam")
    config = TrainConfig(PCFGData(start_level=5), bert(1, layers=1, dropout=dropout), optim, training, masking)
    engine = ScanEngine(teacher_problem(config))
    before = engine.init()
    untrained = jax.device_get(before.params)
    state, metrics = engine.record(engine.advance(before, None, 6))
    assert np.isfinite(metrics["eval_loss"]).all()
    assert int(state.diverged_at_L[0]) == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    assert (np.asarray(state.params["position"]["embedding"]) != untrained["position"]["embedding"]).any()
