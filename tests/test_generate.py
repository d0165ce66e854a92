"""Sequences sampled from GPT-2: logits of the cached steps, the law of what is drawn, its form."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from common.nn.blocks import TokenInputs
from common.nn.functional import Params, module_of
from common.nn.generate import Cache, Sampling, empty_cache, gpt2_generator, step
from common.nn.gpt2 import GPT2, GPT2Config, functional_gpt2
from tests.conftest import random_params

VOCABULARY, POSITIONS = 7, 9
FIRST, END, PAD = 3, 4, 5
SAMPLING = Sampling(FIRST, END, PAD, (0, 1, 2, END), length=8)
CONFIG = GPT2Config(2, head_size=4, layers=2, dropout=0.5)


def params_of(config: GPT2Config, scale: float = 0.3) -> Params:
    return random_params(functional_gpt2(config, VOCABULARY, POSITIONS, VOCABULARY).init, scale)


def sequences(num_sequences: int, seed: int = 0, sampling: Sampling = SAMPLING) -> np.ndarray:
    generate = gpt2_generator(CONFIG, VOCABULARY, POSITIONS, sampling)
    draw = jax.jit(generate, static_argnums=2)
    return np.asarray(draw(params_of(CONFIG), jax.random.key(seed), num_sequences))


@pytest.mark.parametrize("config", [GPT2Config(2, head_size=4, layers=1), GPT2Config(3, layers=3)])
def test_cached_logits_are_those_of_a_forward_pass(config: GPT2Config) -> None:
    module = module_of(lambda rngs: GPT2(config, VOCABULARY, POSITIONS, VOCABULARY, rngs=rngs))
    whole = functional_gpt2(config, VOCABULARY, POSITIONS, VOCABULARY).apply
    params, tokens_BxT = params_of(config), jnp.asarray(sequences(5)[:, :-1])

    @jax.jit
    def both(params: Params) -> tuple[jax.Array, jax.Array]:
        model = module(params)
        blocks = [model.blocks[str(i)] for i in range(config.layers)]
        caches = [empty_cache(block, tokens_BxT, 5, SAMPLING.length) for block in blocks]

        def read(caches: list[Cache], position: jax.Array) -> tuple[list[Cache], jax.Array]:
            logits_BxV, caches = step(model, tokens_BxT[:, position], position, caches)
            return caches, logits_BxV

        logits_TxBxV = jax.lax.scan(read, caches, jnp.arange(SAMPLING.length))[1]
        return logits_TxBxV.swapaxes(0, 1), whole(params, TokenInputs(tokens_BxT))

    cached_BxTxV, expected_BxTxV = both(params)
    assert np.ptp(expected_BxTxV) > 1
    np.testing.assert_allclose(cached_BxTxV, expected_BxTxV, rtol=0, atol=1e-5)


def test_sequences_have_the_models_law() -> None:
    """Against the probabilities of all sequences of up to three tokens, by forward passes."""
    sampling, num_sequences = SAMPLING._replace(length=3), 20_000
    words = [
        (*word, END) if len(word) < 3 else word
        for length in range(4)
        for word in itertools.product((0, 1, 2), repeat=length)
    ]
    assert len(words) == 1 + 3 + 9 + 27
    tokens_WxT = np.full((len(words), 4), PAD)
    tokens_WxT[:, 0] = FIRST
    for row, word in zip(tokens_WxT, words, strict=True):
        row[1 : len(word) + 1] = word
    apply = functional_gpt2(CONFIG, VOCABULARY, POSITIONS, VOCABULARY).apply
    logits_WxTxV = jax.jit(apply)(params_of(CONFIG), TokenInputs(jnp.asarray(tokens_WxT[:, :-1])))
    allowed_A = np.asarray(sampling.allowed)
    log_WxTxA = np.asarray(jax.nn.log_softmax(logits_WxTxV[:, :, allowed_A]), np.float64)
    probability_W = np.asarray(
        [
            np.exp(sum(log_TxA[t, sampling.allowed.index(token)] for t, token in enumerate(word)))
            for word, log_TxA in zip(words, log_WxTxA, strict=True)
        ]
    )
    assert probability_W.sum() == pytest.approx(1, abs=1e-6)
    found = sequences(num_sequences, sampling=sampling)
    count_W = [np.sum((found == row[None]).all(axis=1)) for row in tokens_WxT]
    assert sum(count_W) == num_sequences
    expected_W = num_sequences * probability_W / probability_W.sum()
    assert expected_W.min() > 5
    assert chisquare(count_W, expected_W).pvalue > 0.01
    assert chisquare(count_W, np.roll(expected_W, 1)).pvalue < 1e-9


def test_sequences_end_and_padding_follows() -> None:
    found = sequences(256)
    assert found.shape == (256, SAMPLING.length + 1)
    assert (found[:, 0] == FIRST).all()
    has_ended = np.cumsum(found == END, axis=1) - (found == END) > 0
    assert (found[has_ended] == PAD).all()
    assert np.isin(found[:, 1:][~has_ended[:, 1:]], SAMPLING.allowed).all()
    ends = (found == END).any(axis=1)
    assert 0 < ends.sum() < len(found), "some sequences are cut at the longest length"


def test_a_sequence_is_a_function_of_the_key_and_its_number() -> None:
    found = sequences(64)
    np.testing.assert_array_equal(found, sequences(64))
    np.testing.assert_array_equal(found[:24], sequences(24))
    assert (found != sequences(64, seed=1)).any(axis=1).mean() > 0.5
    assert len(np.unique(found, axis=0)) > 16
