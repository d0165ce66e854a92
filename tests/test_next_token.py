"""Sentences for prediction of the next token: which tokens are asked for, at every level."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.base.errors import UserError
from common.base.keys import purpose_key
from common.nn.functional import Batch, Params
from common.nn.gpt2 import GPT2Config, functional_gpt2
from common.train.losses import label_cross_entropy, masked_mean
from pcfg.data import PCFGData
from pcfg.grammar import load
from pcfg.next_token.data import NextTokenConfig, depth_of, eval_batch, expected_symbols, sample
from pcfg.sampler import Sentences, make_sampler
from tests.conftest import random_params

PUBLISHED = (1, 2.5, 5.8, 14.0, 37.1, 98.1, 249.9)
"""Supervised tokens of cfg3f's levels, to one digit behind the point; worked out beforehand."""
SMALL = PCFGData("cfg3f", start_level=3)
KEY = jax.random.key(0)


def batch_of(config: NextTokenConfig, num_sentences: int, data: PCFGData = SMALL) -> Batch:
    grammar = data.load()
    return sample(
        KEY, config, depth_of(config, data, grammar), make_sampler(grammar), num_sentences
    )


def supervised_of(level: int, num_sentences: int) -> np.ndarray:
    """Which tokens of the sentences are predicted, `(B, T)`, wherever the batch asks for them."""
    batch = jax.device_get(batch_of(NextTokenConfig(level), num_sentences))
    if batch.inputs.at_BxP is None:
        return batch.mask
    asked_BxT = np.zeros(batch.inputs.tokens_BxT.shape, np.float32)
    np.put_along_axis(asked_BxT, batch.inputs.at_BxP, batch.mask, axis=1)
    labels_BxP = np.take_along_axis(batch_labels(num_sentences), batch.inputs.at_BxP, axis=1)
    np.testing.assert_array_equal(batch.labels, labels_BxP)
    return asked_BxT


def batch_labels(num_sentences: int) -> np.ndarray:
    """The next token at every position."""
    return np.asarray(batch_of(NextTokenConfig(), num_sentences).labels)


def sentences_of(num_sentences: int) -> Sentences:
    """Those of `batch_of`, as the sampler draws them."""
    return make_sampler(SMALL.load()).sample(purpose_key(KEY, "sentences"), num_sentences)


def test_expected_numbers_of_supervised_tokens() -> None:
    assert [round(number, 1) for number in expected_symbols(load("cfg3f"))] == list(PUBLISHED)


@pytest.mark.parametrize("level", [4, 5, 6])
def test_as_many_tokens_are_supervised_as_expected(level: int) -> None:
    batch = batch_of(NextTokenConfig(level), 4096)
    counts_B = np.asarray(batch.mask).sum(1)
    expected = expected_symbols(SMALL.load())[level - SMALL.start_level]
    error = counts_B.std() / np.sqrt(len(counts_B))
    assert abs(counts_B.mean() - expected) < 4 * error


def test_a_boundary_is_the_last_token_below_a_symbol_and_levels_nest() -> None:
    """By the ancestors: a token is the last one below its ancestor if the next has another, or,
    where two symbols of one name follow each other, if a higher one ends too."""
    masks = {level: supervised_of(level, 64) for level in (4, 5, 6)}
    assert np.all(masks[4] <= masks[5])
    assert np.all(masks[5] <= masks[6])
    sentences = jax.device_get(sentences_of(64))
    for row, length in enumerate(sentences.length_B):
        every = np.arange(masks[6].shape[1]) < length
        np.testing.assert_array_equal(masks[6][row], every)
        for level in (4, 5):
            assert masks[level][row, length - 1], "the sentence's last token ends all levels"
            of_level_T = sentences.ancestors_BxTxD[row, 1 : length + 1, level - 3]
            changes = np.flatnonzero(of_level_T[1:] != of_level_T[:-1])
            assert masks[level][row, changes].all()


def test_inputs_are_the_sentence_and_labels_what_follows() -> None:
    vocabulary = make_sampler(SMALL.load()).vocabulary
    sentences = jax.device_get(sentences_of(16))
    with_end = jax.device_get(batch_of(NextTokenConfig(predicts_end=True), 16))
    without = jax.device_get(batch_of(NextTokenConfig(), 16))
    for row, length in enumerate(sentences.length_B):
        words = sentences.tokens_BxT[row, 1 : length + 1]
        np.testing.assert_array_equal(without.inputs.tokens_BxT[row, 0], vocabulary.bos)
        np.testing.assert_array_equal(without.inputs.tokens_BxT[row, 1:length], words[:-1])
        np.testing.assert_array_equal(without.labels[row, :length], words)
        assert without.mask[row].sum() == length
        assert with_end.mask[row].sum() == length + 1
        np.testing.assert_array_equal(with_end.labels[row, : length + 1], [*words, vocabulary.eos])
    assert without.labels.shape[1] == make_sampler(SMALL.load()).longest
    assert with_end.labels.shape[1] == without.labels.shape[1] + 1


def test_only_few_logits_are_computed_where_few_tokens_are_predicted() -> None:
    sampler = make_sampler(SMALL.load())
    batch = batch_of(NextTokenConfig(4, predicts_end=True), 8)
    most = 3 + 1  # children of the start, and EOS
    assert batch.labels.shape == batch.mask.shape == (8, most)
    assert batch.inputs.tokens_BxT.shape == (8, sampler.longest + 1)
    last_B = np.asarray(batch.mask).sum(1).astype(int) - 1
    assert np.all(np.asarray(batch.labels)[np.arange(8), last_B] == sampler.vocabulary.eos)


@pytest.mark.parametrize("level", [4, None])
def test_padding_changes_nothing(level: int | None) -> None:
    """The loss and its gradient of a batch, and of the same with more padding."""
    paddings = 1, 4, 9
    batch = batch_of(NextTokenConfig(level), 3)
    length = batch.inputs.tokens_BxT.shape[1] + max(paddings)
    model = functional_gpt2(GPT2Config(2, layers=2), 8, length, 8)
    params = random_params(model.init, 0.3)

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradient(params: Params, batch: Batch) -> jax.Array:
        logits = model.apply(params, batch.inputs)
        return masked_mean(label_cross_entropy(logits, batch.labels), batch.mask)

    as_it_is = jax.tree.leaves(loss_and_gradient(params, batch))
    for padding in paddings:
        longer = jax.tree.leaves(loss_and_gradient(params, padded(batch, padding)))
        for one, other in zip(as_it_is, longer, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def padded(batch: Batch, padding: int) -> Batch:
    """With so much more of it."""
    pad = make_sampler(SMALL.load()).vocabulary.pad
    more = ((0, 0), (0, padding))
    tokens_BxT = jnp.pad(batch.inputs.tokens_BxT, more, constant_values=pad)
    longer = batch._replace(inputs=batch.inputs._replace(tokens_BxT=tokens_BxT))
    if batch.inputs.at_BxP is not None:
        return longer
    labels_BxT = jnp.pad(batch.labels, more, constant_values=pad)
    return longer._replace(labels=labels_BxT, mask=jnp.pad(batch.mask, more))


@pytest.mark.parametrize(
    ("level", "data", "words"),
    [
        (0, PCFGData("cfg3f"), "one token of each"),
        (3, SMALL, "one token of each"),
        (2, SMALL, "the levels 4 to 6"),
        (7, PCFGData("cfg3f"), "the levels 1 to 6"),
        (4, PCFGData("cfg3f", start_symbol="10"), "one token of each"),
        (1, PCFGData("cfg3f", start_symbol="13"), "the levels 4 to 6"),
    ],
)
def test_levels_that_sentences_do_not_have(level: int, data: PCFGData, words: str) -> None:
    with pytest.raises(UserError, match=words):
        depth_of(NextTokenConfig(level), data, data.load())


def test_levels_keep_their_names_below_a_start_symbol() -> None:
    data = PCFGData("cfg3f", start_symbol="13")
    assert depth_of(NextTokenConfig(5), data, data.load()) == 2


def test_the_evaluation_set_is_not_of_the_training_stream() -> None:
    grammar = SMALL.load()
    held_out = eval_batch(SMALL, NextTokenConfig(), 3, make_sampler(grammar), 8)
    assert not np.array_equal(held_out.labels, batch_of(NextTokenConfig(), 8).labels)
