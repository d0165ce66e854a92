"""Dropout: where it acts, how much it takes away, and that only training sees it."""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from common.base.config import TrainingConfig
from common.nn.attention import gather
from common.nn.bert import BERTConfig, functional_bert
from common.nn.blocks import TokenInputs
from common.nn.gpt2 import GPT2, GPT2Config, functional_gpt2
from common.train.engine import ScanEngine
from common.train.optim import OptimConfig
from parity.config import TrainConfig
from parity.data import ParityData
from parity.spec import SPEC
from tests.conftest import random_params


def test_dropout_sets_to_zero_and_scales_up() -> None:
    """At each of GPT-2's places a part p is zero and the mean over masks is what there is without:
    embedding, attention weights, both sublayers."""
    config, rate, num_masks = GPT2Config(heads=4, dropout=0.25, init_std=0.2), 0.25, 1000
    model = GPT2(config, 3, 9, 3, rngs=nnx.Rngs(params=jax.random.key(0)))
    graph, state = nnx.split(model)
    tokens = jnp.asarray([[0, 1, 2, 1, 0, 2, 2, 1, 0]])
    x_1xTxM = 5 * model.embed(tokens)
    places: dict[str, Callable[[GPT2, nnx.Rngs | None], jax.Array]] = {
        "embedding": lambda m, rngs: m.embed(tokens, rngs=rngs),
        "attention": lambda m, rngs: m.blocks["0"].attend(
            x_1xTxM, x_1xTxM, None, is_causal=True, rngs=rngs
        ),
        "network": lambda m, rngs: m.blocks["0"].transform(x_1xTxM, rngs),
    }
    for name, place in places.items():
        kept = place(model, None)

        def once(key: jax.Array, place=place) -> jax.Array:
            return place(nnx.merge(graph, state), nnx.Rngs(dropout=key))

        dropped_N = jax.jit(jax.vmap(once))(jax.random.split(jax.random.key(1), num_masks))
        assert np.mean(dropped_N == 0) == pytest.approx(rate, abs=0.01), name
        error = jnp.sqrt(dropped_N.var(0) / num_masks)
        assert np.abs((dropped_N.mean(0) - kept) / error).max() < 5, name
        if name != "attention":
            np.testing.assert_allclose(
                dropped_N, jnp.where(dropped_N == 0, 0, kept / (1 - rate)), rtol=1e-4, atol=1e-6
            )

    # The first position attends to itself alone: a head that drops this weight gives nothing there.
    q_NxTxHxK = jax.random.normal(jax.random.key(2), (num_masks, 9, config.heads, config.head_size))
    y_NxTxHxK = gather(
        q_NxTxHxK, q_NxTxHxK, q_NxTxHxK, None, True, (model.drop, nnx.Rngs(dropout=0))
    )
    assert np.mean((y_NxTxHxK[:, 0] == 0).all(-1)) == pytest.approx(rate, abs=0.03)


@pytest.mark.parametrize("at_last", [False, True])
@pytest.mark.parametrize("architecture", ["gpt2", "bert"])
def test_dropout_of_almost_nothing_changes_almost_nothing(architecture: str, at_last: bool) -> None:
    """The attention that can drop weights is the library's where it drops none."""
    model = (
        functional_gpt2(GPT2Config(heads=2, dropout=1e-7), 2, 9, 4)
        if architecture == "gpt2"
        else functional_bert(BERTConfig(heads=2, dropout=1e-7), 2, 9)
    )
    params = random_params(model.init, 0.1)
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, 2, (6, 9)))
    inputs = TokenInputs(tokens, at_BxP=jnp.full((6, 1), 8) if at_last else None)
    np.testing.assert_allclose(
        jax.jit(model.apply)(params, inputs, jax.random.key(0)),
        jax.jit(model.apply)(params, inputs),
        rtol=1e-4,
        atol=1e-5,
    )


def test_only_training_with_dropout_is_random() -> None:
    """Logits depend on the key only where there is dropout, and without a key never; dropout of 0
    leaves no trace in the program."""
    tokens = TokenInputs(jnp.asarray(np.random.default_rng(1).integers(0, 2, (6, 9))))
    dropping, plain = (
        functional_gpt2(GPT2Config(heads=2, dropout=rate), 2, 9, 2) for rate in (0.3, 0.0)
    )
    params = random_params(plain.init, 0.1)
    apply = jax.jit(dropping.apply)
    one, other = (apply(params, tokens, jax.random.key(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(one, apply(params, tokens, jax.random.key(0)))
    assert (one != other).any()
    np.testing.assert_array_equal(apply(params, tokens), jax.jit(plain.apply)(params, tokens))
    traced = jax.make_jaxpr(plain.apply)(params, tokens, jax.random.key(0))
    assert str(traced.jaxpr.eqns) == str(jax.make_jaxpr(plain.apply)(params, tokens).jaxpr.eqns)


def test_a_run_drops_while_it_trains_and_not_while_it_is_evaluated() -> None:
    plain = TrainConfig(
        ParityData(4, 2),
        GPT2Config(1, layers=1),
        OptimConfig((0.1,)),
        TrainingConfig(2, 4, 2, 64),
    )
    dropping = replace(plain, model=GPT2Config(1, layers=1, dropout=0.5))
    losses, trained = [], []
    for config in (plain, dropping, dropping):
        engine = ScanEngine(SPEC.teacher_problem(config))
        state, metrics = engine.record(engine.init())
        losses.append(np.asarray(metrics["eval_loss"]))
        trained.append(np.asarray(engine.advance(state, None, 2).params["head"]["kernel"]))
    assert losses[0] == losses[1] == losses[2]
    assert (trained[0] != trained[1]).any()
    np.testing.assert_array_equal(trained[1], trained[2])
