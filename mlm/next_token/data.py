"""Rows of text for prediction of the next token: batches from a prepared corpus.

A row is a token that begins it ([CLS], or <|endoftext|>, behind which GPT-2 has seen texts begin;
whether Pythia has is disputed, EleutherAI/pythia, issues 123 and 175), and a piece of a document.
Every token of the piece is predicted, but [UNK]; the end of the piece is none of the document's,
and is not.

Shapes: B rows of T tokens, of which a model reads T - 1; V tokens in the vocabulary.
"""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from common.base.config import configuration
from common.base.keys import seed_key
from common.nn.functional import Batch
from common.sequence.next_token_batches import next_token_batch
from mlm.corpus import open_corpus
from mlm.data import TextConfig
from mlm.rows import Frame, RowTable, TextRows, look_up
from mlm.text import Text, cut_text
from mlm.vocabulary import SpecialIds, Vocabulary


@configuration
class NextTextConfig(TextConfig):
    """Which text a model reads, and in which rows."""

    length: Annotated[int, Field(ge=2, le=2**16)] = 128
    """Tokens in a row, the one that begins it among them."""

    def load(self) -> Text:
        """The text, cut into rows.

        Raises:
            UserError: the corpus is missing or unfinished, or has less text than one row.
        """
        corpus = open_corpus(self.corpus)
        frame = frame_of(corpus.vocabulary)
        return cut_text(self.corpus, corpus.hash, self.length, frame, self.across_documents)


def frame_of(vocabulary: Vocabulary) -> Frame:
    """What stands around the text of a row. Padding may be the token that begins a row, because no
    text has it, and it is never predicted."""
    ids = vocabulary.ids
    if isinstance(ids, SpecialIds):
        return Frame(ids.cls, None, ids.pad)
    return Frame(ids.end, None, ids.end)


class NextTextData(NamedTuple):
    """What compiled programs read."""

    is_word_V: np.ndarray | jax.Array
    validation: TextRows
    train: TextRows | None
    """All rows, or those of some steps."""


def data_of(text: Text) -> NextTextData:
    """All but the training rows."""
    return NextTextData(text.is_word_V, text.validation.whole(), None)


def sample(data: NextTextData, key: jax.Array, text: Text, num_rows: int) -> Batch:
    """Draw training rows; inputs, labels and mask `(B, T - 1)`."""
    assert data.train is not None
    return _batch(data, data.train, text.train, key, text, num_rows)


def eval_batch(data: NextTextData, text: Text, seed: int, num_rows: int) -> Batch:
    """The fixed evaluation set, of documents that nothing is trained on."""
    key = seed_key(seed, "evaluation")
    return _batch(data, data.validation, text.validation, key, text, num_rows)


def _batch(
    data: NextTextData, rows: TextRows, table: RowTable, key: jax.Array, text: Text, num_rows: int
) -> Batch:
    tokens_BxT = look_up(rows, table.draw(key, num_rows), text.length, text.frame)
    return next_token_batch(tokens_BxT, jnp.asarray(data.is_word_V)[tokens_BxT])
