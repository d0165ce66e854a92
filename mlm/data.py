"""Masked rows of text: batches from a prepared corpus, fresh masks in every step.

Shapes: B rows of T tokens, of which P are asked about; V tokens in the vocabulary.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from common.base.config import Seed, configuration
from common.base.keys import purpose_key, seed_key
from common.nn.functional import Batch
from common.sequence.masked_batches import packed_batch
from common.sequence.masking import CountedMaskingConfig, counted_size, mask_count
from mlm.corpus import TRAIN, VALIDATION, Corpus, Vocabulary, open_corpus
from mlm.rows import NUM_SPECIAL, RowTable, TextRows, look_up

KEPT_TEXTS = 4
"""How many cut corpora a process keeps."""


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

    def load(self) -> "Text":
        """The text, cut into rows.

        Raises:
            UserError: the corpus is missing or unfinished, or has less text than one row.
        """
        corpus = open_corpus(self.corpus)
        return _cut(self.corpus, corpus.hash, self.length, self.across_documents)


@dataclass(frozen=True, eq=False)
class Text:
    """A corpus in rows."""

    corpus: Corpus
    length: int
    """T."""
    train: RowTable
    validation: RowTable

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokeniser's."""
        return self.corpus.vocabulary

    @functools.cached_property
    def is_word_V(self) -> np.ndarray:
        """Which ids may be predicted: neither special tokens nor [UNK], which is no word."""
        is_unknown_V = np.arange(self.vocabulary.size) == self.vocabulary.ids.unknown
        return ~self.vocabulary.is_special_V & ~is_unknown_V

    @functools.cached_property
    def word_ids(self) -> tuple[int, ...]:
        """Those ids, from which random words are drawn."""
        return tuple(np.flatnonzero(self.is_word_V).tolist())


class TextData(NamedTuple):
    """What compiled programs read."""

    is_word_V: np.ndarray | jax.Array
    begins_word_V: np.ndarray | jax.Array
    validation: TextRows
    train: TextRows | None
    """All rows, or those of some steps."""


def data_of(text: Text) -> TextData:
    """All but the training rows."""
    return TextData(text.is_word_V, text.vocabulary.is_first_piece_V, text.validation.whole(), None)


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
    ids = text.vocabulary.ids
    tokens_BxT = look_up(rows, numbers_B, text.length, ids)
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


@functools.lru_cache(maxsize=KEPT_TEXTS)
def _cut(path: Path, corpus_hash: str, length: int, across_documents: bool) -> Text:
    """Made once for each content of a folder."""
    corpus = open_corpus(path)
    train, validation = (
        RowTable(corpus.split(name), length, across_documents=across_documents)
        for name in (TRAIN, VALIDATION)
    )
    return Text(corpus, length, train, validation)
