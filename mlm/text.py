"""A corpus in rows, as runs on text read it.

Shapes: B rows of T tokens; V tokens in the vocabulary.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from common.base.errors import UserError
from mlm.corpus import TRAIN, VALIDATION, Corpus, open_corpus
from mlm.rows import Frame, RowTable, look_up
from mlm.vocabulary import SpecialIds, Vocabulary, WordPieces

KEPT_TEXTS = 4
"""How many cut corpora a process keeps."""


@dataclass(frozen=True, eq=False)
class Text:
    """A corpus in rows."""

    corpus: Corpus
    length: int
    """T."""
    frame: Frame
    """Of every row."""
    train: RowTable
    validation: RowTable

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokeniser's."""
        return self.corpus.vocabulary

    @property
    def pieces(self) -> WordPieces:
        """The same of a tokeniser of word pieces; see `word_pieces_of`."""
        return word_pieces_of(self.corpus)

    @functools.cached_property
    def is_word_V(self) -> np.ndarray:
        """Which ids may be predicted: neither special tokens nor [UNK], which is no word."""
        is_word_V = ~self.vocabulary.is_special_V
        if isinstance(self.vocabulary.ids, SpecialIds):
            is_word_V[self.vocabulary.ids.unknown] = False
        return is_word_V

    @functools.cached_property
    def word_ids(self) -> tuple[int, ...]:
        """Those ids, from which random words are drawn."""
        return tuple(np.flatnonzero(self.is_word_V).tolist())


def held_out_rows(text: Text, key: jax.Array, num_rows: int) -> tuple[jax.Array, np.ndarray]:
    """Rows of validation documents, `(B, T)`, and their numbers, drawn as training draws its rows;
    one that is drawn twice counts once."""
    number_B = np.unique(np.asarray(text.validation.draw(key, num_rows)))
    rows = text.validation.part(number_B)
    lookup = jax.jit(look_up, static_argnums=(2, 3))
    return lookup(rows, number_B, text.length, text.frame), number_B


def word_pieces_of(corpus: Corpus) -> WordPieces:
    """The word pieces that a corpus consists of.

    Raises:
        UserError: it consists of others.
    """
    if not isinstance(corpus.vocabulary, WordPieces):
        raise UserError(
            f"{corpus.path} was prepared with a tokeniser of bytes, which has no [MASK]: its text"
            " is for models of the next token (python -m mlm.next_token.train); for masked words"
            " prepare it with BERT's tokeniser, or with one of its own"
        )
    return corpus.vocabulary


@functools.lru_cache(maxsize=KEPT_TEXTS)
def cut_text(
    path: Path, corpus_hash: str, length: int, frame: Frame, across_documents: bool
) -> Text:
    """A corpus in rows, made once for each content of a folder.

    Args:
        path: the folder.
        corpus_hash: of its content.
        length: T.
        frame: of every row.
        across_documents: see `RowTable`.

    Raises:
        UserError: it has less text than one row, or more rows than can be numbered.
    """
    corpus = open_corpus(path)
    train, validation = (
        RowTable(corpus.split(name), length - frame.num_tokens, across_documents=across_documents)
        for name in (TRAIN, VALIDATION)
    )
    return Text(corpus, length, frame, train, validation)
