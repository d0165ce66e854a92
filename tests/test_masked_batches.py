"""Batches of masked sentences: packed where the vocabulary is large, with the same loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from common.nn.bert import BERTConfig, functional_bert
from common.nn.functional import Batch, Params
from common.sequence.masked_batches import LARGE_VOCABULARY, masked_batch
from common.sequence.masking import Masked, MaskingConfig, mask_tokens, packed_size
from common.train.losses import label_cross_entropy, masked_mean
from tests.conftest import random_params

PAD, MASK, FIRST_WORD = 0, 1, 2
VOCABULARY, BATCH, LENGTH = 30_000, 3, 37
MASKING = MaskingConfig(0.15)
MODEL = functional_bert(BERTConfig(heads=1, head_size=4, layers=2), VOCABULARY, LENGTH)


def sentences() -> tuple[jax.Array, Masked]:
    """Words without special tokens, padded, and what is masked of them."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(FIRST_WORD, VOCABULARY, (BATCH, LENGTH))
    tokens[np.arange(LENGTH) >= np.asarray([LENGTH, 30, 20])[:, None]] = PAD
    tokens_BxT = jnp.asarray(tokens, jnp.int32)
    masked = mask_tokens(
        jax.random.key(0),
        tokens_BxT,
        tokens_BxT >= FIRST_WORD,
        MASKING,
        mask_id=MASK,
        pad_id=PAD,
        word_ids=range(FIRST_WORD, VOCABULARY),
    )
    return tokens_BxT, masked


def batch_of(vocabulary: int) -> Batch:
    return masked_batch(*sentences(), fraction=MASKING.fraction, vocabulary=vocabulary)


PACKED, WHOLE = batch_of(VOCABULARY), batch_of(LARGE_VOCABULARY - 1)


def loss(params: Params, batch: Batch) -> jax.Array:
    logits = MODEL.apply(params, batch.inputs)
    return masked_mean(label_cross_entropy(logits, batch.labels), batch.mask)


def program(batch: Batch) -> str:
    """Of the loss and its gradient, with the shapes of all arrays in it."""
    params = jax.eval_shape(MODEL.init, jax.random.key(0))
    return str(jax.make_jaxpr(jax.value_and_grad(loss))(params, batch))


def test_a_batch_is_packed_where_the_vocabulary_is_large() -> None:
    size = packed_size(MASKING.fraction, LENGTH)
    assert size < LENGTH
    assert PACKED.labels.shape == PACKED.mask.shape == PACKED.inputs.at_BxP.shape == (BATCH, size)
    assert WHOLE.labels.shape == WHOLE.mask.shape == (BATCH, LENGTH)
    assert WHOLE.inputs.at_BxP is None
    assert PACKED.mask.dtype == WHOLE.mask.dtype == jnp.float32
    assert PACKED.mask.sum() == WHOLE.mask.sum() > 0
    for ours, theirs in zip(PACKED.inputs[:2], WHOLE.inputs[:2], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert batch_of(LARGE_VOCABULARY).labels.shape == (BATCH, size)


def test_the_packed_loss_is_the_whole_one() -> None:
    """Loss and gradients to 1e-6."""
    params = random_params(MODEL.init, 0.3)
    (ours, our_gradients), (theirs, their_gradients) = (
        jax.jit(jax.value_and_grad(loss))(params, batch) for batch in (PACKED, WHOLE)
    )
    assert ours == pytest.approx(float(theirs), rel=1e-6)

    def difference(a: jax.Array, b: jax.Array) -> float:
        return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-3))

    differences = jax.tree.map(difference, our_gradients, their_gradients)
    assert max(jax.tree.leaves(differences)) < 1e-6, differences


def test_packed_logits_are_never_there_for_all_positions() -> None:
    size = packed_size(MASKING.fraction, LENGTH)
    assert f"[{BATCH},{LENGTH},{VOCABULARY}]" in program(WHOLE)
    assert f"[{BATCH},{size},{VOCABULARY}]" in program(PACKED)
    assert f"{LENGTH},{VOCABULARY}]" not in program(PACKED)
    assert f"[{BATCH * LENGTH},{VOCABULARY}]" not in program(PACKED)
