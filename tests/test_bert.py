"""BERT against Hugging Face's on the same weights, and what padding may do, to GPT-2 too."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from common.formats.torch_names import BERT_POSITIONS, ties_embeddings, to_torch
from common.nn import attention
from common.nn.bert import BERTConfig, functional_bert
from common.nn.blocks import TokenInputs
from common.nn.functional import Functional, Params
from common.nn.gpt2 import GPT2Config, functional_gpt2
from tests.conftest import random_params

VOCABULARY, LENGTH = 11, 30


def model_of(config: BERTConfig | GPT2Config) -> Functional:
    """A model of this vocabulary."""
    if isinstance(config, BERTConfig):
        return functional_bert(config, VOCABULARY, LENGTH)
    return functional_gpt2(config, VOCABULARY, LENGTH, VOCABULARY)


def bert(params: Params, config: BERTConfig, length: int | None = LENGTH) -> BertForMaskedLM:
    """Hugging Face's model with our weights, without dropout."""
    theirs = BertConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=BERT_POSITIONS if length is None else LENGTH,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=4 * config.width,
        type_vocab_size=config.token_types or 1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=None,
    )
    model = BertForMaskedLM(theirs)
    model.load_state_dict(
        {name: torch.from_numpy(np.array(leaf)) for name, leaf in to_torch(params).items()}
    )
    return model


@pytest.mark.parametrize(
    ("config", "length"),
    [
        (BERTConfig(4, 8, 2), LENGTH),
        (BERTConfig(32, 8, 4), LENGTH),
        (BERTConfig(3, 16, 3), LENGTH),
        (BERTConfig(2, 8, 2, token_types=1), LENGTH),
        (BERTConfig(2, 8, 2, token_types=3), LENGTH),
        (BERTConfig(2, 8, 2), None),
    ],
)
def test_logits_are_those_of_bert(config: BERTConfig, length: int | None) -> None:
    """Same weights, tokens, padding and types, float32: relative difference of the logits at most
    1e-5 wherever there is a token. One that knows no order goes there with places that are zero."""
    model = functional_bert(config, VOCABULARY, length)
    params = random_params(model.init, 0.1)
    rng = np.random.default_rng(0)
    tokens, lengths = (
        rng.integers(0, VOCABULARY, (5, LENGTH)),
        rng.integers(LENGTH // 2, LENGTH + 1, 5),
    )
    visible = np.arange(LENGTH) < lengths[:, None]
    types = rng.integers(0, config.token_types or 1, tokens.shape)
    with torch.no_grad():
        theirs = (
            bert(params, config, length)
            .eval()(
                torch.from_numpy(tokens),
                attention_mask=torch.from_numpy(visible.astype(int)),
                token_type_ids=torch.from_numpy(types),
            )
            .logits.numpy()
        )
    inputs = TokenInputs(*map(jnp.asarray, (tokens, visible)), types_BxT=jnp.asarray(types))
    ours = jax.jit(model.apply)(params, inputs)
    ours, theirs = np.asarray(ours)[visible], theirs[visible]
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 1e-5
    assert np.abs(ours - theirs).max() / np.abs(theirs).max() < 1e-5


def test_tokens_without_types_are_of_the_first() -> None:
    model = model_of(BERTConfig(2, token_types=2))
    params, tokens = random_params(model.init, 0.1), jnp.ones((2, LENGTH), jnp.int32)
    apply = jax.jit(model.apply)
    first, second = (TokenInputs(tokens, types_BxT=jnp.full_like(tokens, i)) for i in (0, 1))
    np.testing.assert_array_equal(apply(params, TokenInputs(tokens)), apply(params, first))
    assert (apply(params, first) != apply(params, second)).any()


@pytest.mark.parametrize("architecture", [BERTConfig, GPT2Config])
def test_blocks_that_are_computed_again_have_the_same_gradients(
    architecture: type[BERTConfig] | type[GPT2Config],
) -> None:
    """To rounding, with dropout, at some positions; and not a third as much is kept."""
    inputs = TokenInputs(jnp.arange(8 * LENGTH).reshape(8, LENGTH) % VOCABULARY)
    asked = inputs._replace(at_BxP=jnp.zeros((8, 2), jnp.int32) + jnp.arange(2)[None])
    found, kept = [], []
    choices: tuple[Literal["blocks"] | None, ...] = (None, "blocks")
    for remat in choices:
        model = model_of(architecture(2, layers=3, dropout=0.2, remat=remat))
        params = random_params(model.init, 0.1)

        def loss(params: Params, model: Functional = model) -> jax.Array:
            return jnp.sum(model.apply(params, asked, jax.random.key(0)) ** 2)

        found.append(jax.jit(jax.value_and_grad(loss))(params))
        pullback = jax.eval_shape(lambda params, loss=loss: jax.vjp(loss, params)[1], params)
        kept.append(sum(leaf.size for leaf in jax.tree.leaves(pullback)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), found[0], found[1]
    )
    assert kept[1] < kept[0] / 3


def test_embeddings_are_tied_as_berts_are() -> None:
    config = BERTConfig(1, layers=1)
    params = jax.jit(functional_bert(config, VOCABULARY, LENGTH).init)(jax.random.key(0))
    assert ties_embeddings(params) is bert(params, config).config.tie_word_embeddings is True


def test_initial_weights_are_distributed_as_berts() -> None:
    config = BERTConfig(16, layers=3)
    params = jax.jit(functional_bert(config, VOCABULARY, LENGTH).init)(jax.random.key(0))
    ours, theirs = to_torch(params), BertForMaskedLM(bert(params, config).config).state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        if np.ptp(ours[name]) == 0 and "token_type" not in name:
            assert (tensor.numpy() == ours[name]).all(), name
        elif "token_type" not in name:
            assert ours[name].std() == pytest.approx(float(tensor.std()), rel=0.15), name


@pytest.mark.parametrize("architecture", [BERTConfig, GPT2Config])
@pytest.mark.parametrize("dropout", [False, True])
def test_what_is_hidden_changes_nothing(
    architecture: type[BERTConfig] | type[GPT2Config], dropout: bool
) -> None:
    """Other tokens where the mask hides them leave the logits of the rest as they are, to the last
    bit, in training too."""
    model = model_of(architecture(2, dropout=0.3 if dropout else 0.0))
    params, rng = random_params(model.init, 0.1), np.random.default_rng(1)
    tokens, visible = rng.integers(0, VOCABULARY, (4, LENGTH)), rng.random((4, LENGTH)) < 0.6
    key = jax.random.key(0) if dropout else None
    first, second = (
        jax.jit(model.apply)(params, TokenInputs(jnp.asarray(changed), jnp.asarray(visible)), key)
        for changed in (tokens, np.where(visible, tokens, (tokens + 1) % VOCABULARY))
    )
    np.testing.assert_array_equal(np.asarray(first)[visible], np.asarray(second)[visible])
    assert np.abs(np.asarray(first)[~visible] - np.asarray(second)[~visible]).max() > 0.01


@pytest.mark.parametrize("num_queries", ["all", "last"])
def test_attention_in_slices_is_attention(
    num_queries: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits and gradients, with a batch that is no multiple of the slice."""
    model = model_of(BERTConfig(2) if num_queries == "all" else GPT2Config(2))
    at_last = jnp.full((7, 1), LENGTH - 1)
    params, rng = random_params(model.init, 0.1), np.random.default_rng(3)
    tokens, visible = (
        rng.integers(0, VOCABULARY, (7, LENGTH)),
        np.arange(LENGTH) >= rng.integers(0, LENGTH // 2, (7, 1)),
    )
    inputs = TokenInputs(
        jnp.asarray(tokens), jnp.asarray(visible), None if num_queries == "all" else at_last
    )

    def value_and_gradient() -> tuple[np.ndarray, Params]:
        def total(params: Params) -> tuple[jax.Array, jax.Array]:
            logits = model.apply(params, inputs)
            return jnp.sum(logits**2), logits

        gradient, logits = jax.jit(jax.grad(total, has_aux=True))(params)
        return np.asarray(logits), gradient

    whole, whole_gradient = value_and_gradient()
    monkeypatch.setattr(
        attention, "MAX_WEIGHTS", 3 * 2 * LENGTH * (LENGTH if num_queries == "all" else 1)
    )
    assert " scan[" in str(jax.make_jaxpr(model.apply)(params, inputs))  # lax.map: it is in slices
    sliced, sliced_gradient = value_and_gradient()
    np.testing.assert_allclose(sliced, whole, rtol=1e-5, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        sliced_gradient,
        whole_gradient,
    )


def test_dropout_in_slices_differs_from_sequence_to_sequence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = functional_bert(BERTConfig(2, dropout=0.3), VOCABULARY, LENGTH)
    params, tokens = random_params(model.init, 0.1), jnp.zeros((5, LENGTH), jnp.int32)
    monkeypatch.setattr(attention, "MAX_WEIGHTS", 2 * 2 * LENGTH**2)
    assert " scan[" in str(
        jax.make_jaxpr(model.apply)(params, TokenInputs(tokens), jax.random.key(0))
    )
    first, again, other = (
        np.asarray(jax.jit(model.apply)(params, TokenInputs(tokens), jax.random.key(i)))
        for i in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    assert min(np.abs(first[i] - first[j]).max() for i in range(5) for j in range(i)) > 0.01


def test_a_mask_of_ones_is_no_mask() -> None:
    model = functional_bert(BERTConfig(2), VOCABULARY, LENGTH)
    params, tokens = (
        random_params(model.init, 0.1),
        np.random.default_rng(2).integers(0, VOCABULARY, (3, LENGTH)),
    )
    masked = jax.jit(model.apply)(
        params, TokenInputs(jnp.asarray(tokens), jnp.ones(tokens.shape, bool))
    )
    np.testing.assert_allclose(
        masked, jax.jit(model.apply)(params, TokenInputs(jnp.asarray(tokens))), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("backend", "expected"), [("cpu", jnp.float32), ("gpu", jnp.bfloat16), ("tpu", jnp.bfloat16)]
)
def test_activations_are_bfloat16_on_accelerators(
    backend: str, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    # Not one that is kept: in earnest a process has one backend.
    model = functional_bert.__wrapped__(BERTConfig(2), VOCABULARY, LENGTH)
    params, tokens = random_params(model.init, 0.1), jnp.zeros((2, LENGTH), jnp.int32)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert model.apply(params, TokenInputs(tokens)).dtype == jnp.float32
    assert model.hidden(params, TokenInputs(tokens), 0).dtype == expected
