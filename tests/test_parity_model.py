"""What a Transformer answers on parity, by the longer way and by the shorter one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from common.nn.blocks import TokenInputs
from common.nn.functional import Functional, Params, functional
from common.nn.gpt2 import GPT2, GPT2Config, functional_gpt2
from parity.data import ParityData
from parity.model import FEW_TOKENS, answer, model_of
from tests.conftest import random_params

VOCABULARY, LENGTH, MOST = 3, 7, 9
"""Sequences may be shorter than the longest that the model knows."""
BATCH = FEW_TOKENS * VOCABULARY
TOKENS = np.random.default_rng(1).integers(0, VOCABULARY, (BATCH, LENGTH))


def answering(config: GPT2Config) -> Functional:
    """GPT-2 that answers at the last position."""

    def call(model: GPT2, tokens_BxT: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        return answer(model, tokens_BxT, rngs)

    return functional(
        lambda rngs: GPT2(config, VOCABULARY, MOST, 4, rngs=rngs),
        call,
        lambda model, tokens_BxT, layer: model.activations(TokenInputs(tokens_BxT), layer),
        config.layers,
    )


def takes_pairs(config: GPT2Config, batch: int = BATCH, *, is_training: bool = False) -> bool:
    """Whether the keys and values of the program are those of (token, position) pairs."""
    model, key = answering(config), jax.random.key(0) if is_training else None
    program = jax.make_jaxpr(model.apply)(
        model.init(jax.random.key(0)), jnp.asarray(TOKENS[:batch]), key
    )
    return f"[1,{VOCABULARY * LENGTH},{config.width}]" in str(program)


def test_one_block_and_few_tokens() -> None:
    """Where all keys and values come from (token, position) pairs: logits and gradients are those
    of the last position of the whole model."""
    config = GPT2Config(heads=2, layers=1)
    whole, last = functional_gpt2(config, VOCABULARY, MOST, 4), answering(config)
    params, tokens = random_params(whole.init, 0.3), jnp.asarray(TOKENS)
    assert takes_pairs(config)

    @functools.partial(jax.grad, has_aux=True)
    def at_the_end(params: Params) -> tuple[jax.Array, jax.Array]:
        logits_BxC = whole.apply(params, TokenInputs(tokens))[:, -1]
        return jnp.sum(jnp.sin(logits_BxC)), logits_BxC

    @functools.partial(jax.grad, has_aux=True)
    def alone(params: Params) -> tuple[jax.Array, jax.Array]:
        logits_BxC = last.apply(params, tokens)
        return jnp.sum(jnp.sin(logits_BxC)), logits_BxC

    (theirs, logits_BxC), (ours, own_BxC) = (jax.jit(f)(params) for f in (at_the_end, alone))
    np.testing.assert_allclose(own_BxC, logits_BxC, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), ours, theirs)


def test_pairs_are_taken_where_they_pay() -> None:
    """Not where a block stands on another, where there are as many pairs as tokens, or where what
    is dropped differs from sequence to sequence."""
    assert takes_pairs(GPT2Config(heads=2, layers=1, dropout=0.1))
    assert not takes_pairs(GPT2Config(heads=2, layers=1, dropout=0.1), is_training=True)
    assert not takes_pairs(GPT2Config(heads=2, layers=1), BATCH - 1)
    assert not takes_pairs(GPT2Config(heads=2, layers=2))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("batch", [2, 64])
def test_a_coordinate_is_a_token_and_the_last_position_answers(layers: int, batch: int) -> None:
    """(1 - x) / 2, by whatever way; the hidden layers are those of all positions."""
    data, config = ParityData(d=6, k=2, depth=2), GPT2Config(heads=2, layers=layers)
    ours, plain = model_of(data, config), functional_gpt2(config, 2, 6, 4)
    params = random_params(ours.init, 0.3)
    x_BxI = np.random.default_rng(0).choice([-1.0, 1.0], (batch, 6)).astype(np.float32)
    inputs = TokenInputs(jnp.asarray((1 - x_BxI) / 2, jnp.int32))
    np.testing.assert_allclose(
        jax.jit(ours.apply)(params, jnp.asarray(x_BxI)),
        jax.jit(plain.apply)(params, inputs)[:, -1],
        rtol=1e-4,
        atol=1e-5,
    )
    for layer in range(ours.num_layers):
        np.testing.assert_array_equal(
            ours.hidden(params, jnp.asarray(x_BxI), layer), plain.hidden(params, inputs, layer)
        )
