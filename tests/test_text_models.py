"""Models of text that see less than a row: whatever their depth, nothing else reaches them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.base.errors import UserError
from common.nn.bert import functional_bert
from common.nn.blocks import TokenInputs
from common.nn.functional import Functional, Params
from common.sequence.ngram import window
from mlm.model import TextModel, model_flops, model_of
from tests.conftest import random_params

VOCABULARY, LENGTH = 40, 12
SMALL = TextModel(heads=2, head_size=4, layers=3)
EVERYWHERE = jnp.arange(LENGTH)[None]


def built(config: TextModel) -> tuple[Functional, Params]:
    model = model_of(config, VOCABULARY, LENGTH)
    return model, random_params(model.init, 0.3)


@pytest.mark.parametrize("layers", [1, 4])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_nothing_outside_of_a_window_reaches_a_prediction(n: int, layers: int) -> None:
    """The derivative of the logits at p by what is embedded at q is zero, to the last bit, exactly
    where q lies outside of the window around p."""
    model, params = built(replace(SMALL, layers=layers, window=n))
    # No token comes twice, so that a row of the table of embeddings is what is embedded at one
    # place. It is the last layer's, too: of logits of other tokens, that has no part in it.
    row_1xT, others = jnp.arange(LENGTH)[None], slice(LENGTH, VOCABULARY)

    def logits(embedding_VxM: jax.Array) -> jax.Array:
        with_table = {**params, "token": {"embedding": embedding_VxM}}
        seen = TokenInputs(row_1xT, at_BxP=EVERYWHERE)
        return model.apply(with_table, seen)[0, :, others]

    by_table_PxCxVxM = np.asarray(jax.jit(jax.jacrev(logits))(params["token"]["embedding"]))
    reaches_PxQ = np.abs(by_table_PxCxVxM[:, :, :LENGTH]).sum((1, 3)) > 0
    first, last = window(n)
    offset_PxQ = np.arange(LENGTH)[None] - np.arange(LENGTH)[:, None]
    np.testing.assert_array_equal(reaches_PxQ, (offset_PxQ >= first) & (offset_PxQ <= last))


@pytest.mark.parametrize("n", [4, 5])
def test_a_window_is_a_row_of_bert(n: int) -> None:
    """In the middle of a row, with types; and where the row ends, what is beyond is not seen."""
    config = replace(SMALL, window=n, token_types=2)
    model, params = built(config)
    bert = functional_bert(config, VOCABULARY, n)
    rng = np.random.default_rng(0)
    tokens = jnp.asarray(rng.integers(0, VOCABULARY, (3, LENGTH)))
    types = jnp.asarray(rng.integers(0, 2, (3, LENGTH)))
    at = jnp.asarray([[6, 0], [5, 0], [7, 0]])
    found = model.apply(params, TokenInputs(tokens, at_BxP=at, types_BxT=types))
    own = n // 2
    for i, (middle, _) in enumerate(at.tolist()):
        around = slice(middle - own, middle - own + n)
        rows = TokenInputs(tokens[i : i + 1, around], types_BxT=types[i : i + 1, around])
        expected = bert.apply(params, rows)[0, own]
        np.testing.assert_allclose(found[i, 0], expected, rtol=1e-4, atol=1e-5)
    at_start = TokenInputs(
        jnp.pad(tokens[:, : n - own], ((0, 0), (own, 0))),
        jnp.arange(n)[None] >= jnp.full((3, 1), own),
        types_BxT=jnp.pad(types[:, : n - own], ((0, 0), (own, 0))),
    )
    expected = bert.apply(params, at_start)[:, own]
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-4, atol=1e-5)


def test_padding_is_not_seen_through_a_window() -> None:
    """Nor does a position that is padding itself become no number."""
    model, params = built(replace(SMALL, window=5))
    tokens, visible = jnp.arange(LENGTH)[None], jnp.arange(LENGTH)[None] < 8
    seen = TokenInputs(tokens, visible, EVERYWHERE)
    found = np.asarray(model.apply(params, seen))
    other_padding = seen._replace(tokens_BxT=jnp.where(visible, tokens, 30))
    np.testing.assert_array_equal(found[:, :8], model.apply(params, other_padding)[:, :8])
    assert np.isfinite(found).all()


def test_hidden_layers_of_windows_are_those_behind_the_logits() -> None:
    model, params = built(replace(SMALL, window=3))
    inputs = TokenInputs(jnp.arange(LENGTH)[None], at_BxP=jnp.asarray([[2]]))
    hidden_1xTxM = model.hidden(params, inputs, SMALL.layers - 1)
    assert hidden_1xTxM.shape == (1, LENGTH, SMALL.width)
    other = inputs._replace(tokens_BxT=inputs.tokens_BxT.at[0, 3].set(30))
    is_other_T = (model.hidden(params, other, SMALL.layers - 1) != hidden_1xTxM).any((0, 2))
    assert np.flatnonzero(is_other_T).tolist() == [2, 3, 4]


def test_a_bag_of_words_knows_no_order() -> None:
    """Words may change places; with places, they may not."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, VOCABULARY, (2, LENGTH))
    order = np.concatenate([[0], 1 + rng.permutation(LENGTH - 1)])
    at_first = jnp.zeros((2, 1), jnp.int32)
    for ordered in (True, False):
        model, params = built(replace(SMALL, ordered=ordered))
        assert ("position" in params) == ordered
        found, moved = (
            np.asarray(model.apply(params, TokenInputs(jnp.asarray(row), at_BxP=at_first)))
            for row in (tokens, tokens[:, order])
        )
        assert (np.abs(found - moved).max() < 1e-5) == (not ordered)


def test_operations_of_windows() -> None:
    """As many rows as positions that are asked about, each of n tokens."""
    few, many = (model_flops(replace(SMALL, window=n), VOCABULARY, LENGTH, 4) for n in (3, 6))
    assert few < many < 4 * model_flops(SMALL, VOCABULARY, LENGTH, 1)
    assert 2 * few == model_flops(replace(SMALL, window=3), VOCABULARY, LENGTH, 8)


def test_rows_longer_than_the_positions_are_refused() -> None:
    with pytest.raises(UserError, match=r"--model\.positions 11: rows have 12 tokens"):
        model_of(replace(SMALL, positions=11), VOCABULARY, LENGTH)
    params = model_of(replace(SMALL, positions=20), VOCABULARY, LENGTH).init(jax.random.key(0))
    assert params["position"]["embedding"].shape == (20, SMALL.width)
    with pytest.raises(ValueError, match=r"leave out model\.positions"):
        replace(SMALL, positions=20, window=3)
