"""Masked rows of text: batches from a prepared corpus, fresh masks in every step.

Shapes: B rows of T tokens, of which P are asked about; V tokens in the vocabulary.
"""

from pathlib import Path
from typing import Annotated, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from common.base.config import Seed, configuration
from common.base.keys import purpose_key, seed_key
from common.nn.functional import Batch
from common.sequence.masked_batches import packed_batch
from common.sequence.masking import CountedMaskingConfig, counted_size, mask_count
from mlm.corpus import open_corpus
from mlm.rows import Frame, RowTable, TextRows, look_up
from mlm.text import Text, cut_text, word_pieces_of

NUM_SPECIAL = 2
"""Tokens of a row that are no text: [CLS] and [SEP]."""


@configuration
class TextConfig:
    """Which text a model reads, and in which rows."""

    corpus: Path
    """A folder that `python -m mlm.prepare` has made."""
    length: Annotated[int, Field(ge=NUM_SPECIAL + 1, le=2**16)] = 128
    """Tokens in a row, [CLS] and [SEP] among them."""
    across_documents: bool = False
    """Cut rows from the documents of a shard as if they were one, with nothing between them; False:
    a row is of one document, and may be shorter."""
    seed: Seed = 0
    """Of the evaluation set."""

    def load(self) -> Text:
        """The text, cut into rows.

        Raises:
            UserError: the corpus is missing or unfinished, has less text than one row, or does not
                consist of word pieces.
        """
        corpus = open_corpus(self.corpus)
        ids = word_pieces_of(corpus).ids
        frame = Frame(ids.cls, ids.sep, ids.pad)
        return cut_text(self.corpus, corpus.hash, self.length, frame, self.across_documents)


class ReadsText(Protocol):
    """A configuration of a run on text."""

    @property
    def data(self) -> TextConfig:
        """Which text."""
        ...


class TextData(NamedTuple):
    """What compiled programs read."""

    is_word_V: np.ndarray | jax.Array
    begins_word_V: np.ndarray | jax.Array
    validation: TextRows
    train: TextRows | None
    """All rows, or those of some steps."""


def data_of(text: Text) -> TextData:
    """All but the training rows."""
    return TextData(text.is_word_V, text.pieces.is_first_piece_V, text.validation.whole(), None)


def sample(
    data: TextData, key: jax.Array, text: Text, masking: CountedMaskingConfig, num_rows: int
) -> Batch:
    """Draw masked training rows; labels and mask `(B, P)`, at the positions that are asked for."""
    assert data.train is not None
    return _batch(data, data.train, text.train, key, text, masking, num_rows)


def eval_batch(
    data: TextData, text: Text, masking: CountedMaskingConfig, seed: int, num_rows: int
) -> Batch:
    """The fixed evaluation set, of documents that nothing is trained on."""
    key = seed_key(seed, "evaluation")
    return _batch(data, data.validation, text.validation, key, text, masking, num_rows)


def _batch(
    data: TextData,
    rows: TextRows,
    table: RowTable,
    key: jax.Array,
    text: Text,
    masking: CountedMaskingConfig,
    num_rows: int,
) -> Batch:
    numbers_B = table.draw(key, num_rows)
    ids = text.pieces.ids
    tokens_BxT = look_up(rows, numbers_B, text.length, text.frame)
    masked = mask_count(
        purpose_key(key, "masks"),
        tokens_BxT,
        jnp.asarray(data.is_word_V)[tokens_BxT],
        masking,
        mask_id=ids.mask,
        pad_id=ids.pad,
        word_ids=text.word_ids,
        begins_word_BxT=jnp.asarray(data.begins_word_V)[tokens_BxT],
    )
    return packed_batch(tokens_BxT, masked, num_asked(text.length, masking))


def num_asked(length: int, masking: CountedMaskingConfig) -> int:
    """P: how many words are selected of a row without padding."""
    return counted_size(masking.fraction, length - NUM_SPECIAL)
