"""The non-terminal probe on hidden states whose content is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.runs.probing import chosen_steps
from pcfg.grammar import load, parse_grammar
from pcfg.nonterminal import (
    EVERYWHERE,
    NonTerminalConfig,
    Reading,
    both_logits,
    init_probes,
    probe_accuracy,
    split_levels,
)
from pcfg.sampler import make_sampler

CONFIG = NonTerminalConfig(
    num_train=512, num_eval=512, epochs=4, batch_size=32, learning_rate=0.03, heads=4, width=32
)
# Every level-1 symbol begins with the same token, so that the token says nothing and its right
# neighbour everything.
SHIFTED = "S -> A B | B A | A A | B B\nA -> x y z\nB -> x z y"


def oracle(grammar, shift: int):
    """Hidden states that hold the ancestors of the token `shift` places to the right, read off the
    tokens by looking the sentences up."""
    sampler = make_sampler(grammar)
    classes = [len(level) for level in grammar.levels[:-1]]

    def hidden(tokens_BxT: jax.Array) -> jax.Array:
        # Sentences of SHIFTED are pairs of blocks of three; the second token of a block names the
        # block.
        second_BxT = jnp.stack([tokens_BxT[:, 2]] * 4 + [tokens_BxT[:, 5]] * 4, axis=1)
        block_BxT = jax.nn.one_hot(second_BxT, 8)
        return jnp.roll(block_BxT, shift, axis=1) if shift else block_BxT

    return sampler, classes, hidden


def test_what_is_in_the_hidden_state_is_found() -> None:
    sampler, classes, hidden = oracle(parse_grammar(SHIFTED, "shifted", "shifted"), 0)
    accuracy_2xD = jax.jit(lambda: probe_accuracy(hidden, sampler, classes, CONFIG))()
    np.testing.assert_allclose(accuracy_2xD, 1.0)


def test_what_lies_elsewhere_is_found_by_mixing_alone() -> None:
    sampler, classes, hidden = oracle(parse_grammar(SHIFTED, "shifted", "shifted"), 4)
    linear_D, mixing_D = np.asarray(
        jax.jit(lambda: probe_accuracy(hidden, sampler, classes, CONFIG))()
    )
    assert mixing_D[1] > 0.97
    assert linear_D[1] < 0.8


def test_noise_tells_nothing() -> None:
    grammar = load("cfg3b").entered_at(4)
    sampler, classes = make_sampler(grammar), [len(level) for level in grammar.levels[:-1]]
    noise = jax.random.normal(jax.random.key(1), (sampler.longest + 2, 4))
    accuracy_2xD = jax.jit(
        lambda: probe_accuracy(
            lambda tokens: jnp.broadcast_to(noise[None], (*tokens.shape, 4)),
            sampler,
            classes,
            CONFIG,
        )
    )()
    tokens = sampler.sample(jax.random.key(3), 2000)
    for level in range(len(classes)):
        # The position alone is known: no better than the commonest symbol of each position.
        ancestors = np.asarray(tokens.ancestors_BxTxD[..., level])
        best = (
            sum(
                np.bincount(column[column >= 0], minlength=1).max()
                for column in ancestors.T
                if (column >= 0).any()
            )
            / (ancestors >= 0).sum()
        )
        assert (np.asarray(accuracy_2xD)[:, level] < best + 0.03).all()


def test_mixing_weights_are_normalised_over_sources() -> None:
    """Hidden states that are the same at all of a sentence's tokens come through every head
    unchanged, whatever those of the padding are."""
    params = init_probes(jax.random.key(0), CONFIG, 9, 5, 7)
    sources = jnp.arange(9)[None] < jnp.asarray([4, 7, 9])[:, None]
    same = jnp.broadcast_to(jax.random.normal(jax.random.key(1), (3, 1, 5)), (3, 9, 5))
    hidden = jnp.where(sources[..., None], same, jax.random.normal(jax.random.key(2), (3, 9, 5)))
    mixed = both_logits(params, hidden, sources[:, None])[1]
    expected = jnp.einsum("btm,hmc->btc", same, params["mixing"]["kernel_HxMxC"])
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-6)


def test_levels_and_steps() -> None:
    assert [part.shape[-1] for part in split_levels(jnp.zeros((2, 6)), (1, 3, 2))] == [1, 3, 2]
    assert chosen_steps((0, 10, 20, 30, 40), 3) == (0, 30, 40)
    assert chosen_steps((0, 10, 20), 0) == (0, 20)
    with pytest.raises(ValueError, match="multiples of batch_size"):
        NonTerminalConfig(num_train=100, batch_size=64)


AT_ENDS = Reading(at_ends=True, is_causal=True)


def test_a_causal_probe_finds_what_came_before_alone() -> None:
    """A block ends at tokens 3 and 6. Each hidden state names the block of the token two places to
    the right, or four to the left: the former is a source for every target, the latter comes after
    the first block has ended."""
    grammar = parse_grammar(SHIFTED, "shifted", "shifted")
    accuracy = {}
    for shift in (-2, 4):
        sampler, classes, hidden = oracle(grammar, shift)
        of_shift = jax.jit(partial(probe_accuracy, hidden, sampler, classes, CONFIG, AT_ENDS))
        accuracy[shift] = np.asarray(of_shift())
    linear, mixing = range(2)
    assert accuracy[-2][mixing, 1] > 0.97
    assert accuracy[-2][linear, 1] < 0.8
    assert accuracy[4][mixing, 1] < 0.8


def test_only_ends_of_nodes_are_judged() -> None:
    """Hidden states that hold the ancestor at the end of its node, and nothing elsewhere."""
    sampler, classes, hidden = oracle(parse_grammar(SHIFTED, "shifted", "shifted"), 0)
    is_end_T = jnp.asarray([0, 0, 0, 1, 0, 0, 1, 0])

    def at_ends(tokens_BxT: jax.Array) -> jax.Array:
        return hidden(tokens_BxT) * is_end_T[None, :, None]

    accuracy = {
        reading: np.asarray(
            jax.jit(partial(probe_accuracy, at_ends, sampler, classes, CONFIG, reading))()
        )
        for reading in (EVERYWHERE, AT_ENDS)
    }
    np.testing.assert_allclose(accuracy[AT_ENDS], 1)
    assert accuracy[EVERYWHERE][0, 1] < 0.8


def test_no_later_position_is_a_source() -> None:
    """The derivative of a target's logits by a later hidden state is exactly zero."""
    params = init_probes(jax.random.key(0), CONFIG, 6, 5, 7)
    hidden_1xTxM = jax.random.normal(jax.random.key(1), (1, 6, 5))
    is_token_1xT = jnp.asarray([[True] * 5 + [False]])

    def mixing(hidden_1xTxM: jax.Array) -> jax.Array:
        return both_logits(params, hidden_1xTxM, AT_ENDS.sources(is_token_1xT))[1][0].sum(axis=-1)

    by_hidden_TxTxM = np.asarray(jax.jacobian(mixing)(hidden_1xTxM))[:, 0]
    size_TxT = np.abs(by_hidden_TxTxM).max(axis=-1)
    is_source_TxT = np.tri(6, dtype=bool) & np.asarray(is_token_1xT)
    assert np.all(size_TxT[~is_source_TxT] == 0)
    assert np.all(size_TxT[is_source_TxT] > 0)
