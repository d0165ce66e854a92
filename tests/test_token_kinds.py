"""Kinds of tokens, by a vocabulary of words that are easy to read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mlm.token_kinds import CONTENT, FUNCTION, FUNCTION_WORDS, kind_of_word, kinds_of, word_at
from mlm.vocabulary import SPECIAL_TOKENS, WordPieces, word_pieces

PIECES = (
    *SPECIAL_TOKENS.values(),
    *("the", "them", "##sel", "##ves", "cat", "##s", "19", "##th", ",", "a", "'"),
)
ROW = (
    *("[CLS]", "##ves", "the", "cat", "##s", ",", "them", "##sel", "##ves", "[UNK]"),
    *("19", "##th", "'", "##s", "a", "[SEP]", "[PAD]"),
)


@pytest.fixture(scope="module")
def vocabulary() -> WordPieces:
    return word_pieces({piece: i for i, piece in enumerate(PIECES)}, "##", Path("made up"))


def ids(pieces: Sequence[str]) -> list[int]:
    return [PIECES.index(piece) for piece in pieces]


def test_pieces_have_texts_of_their_own(vocabulary: WordPieces) -> None:
    assert vocabulary.text_V[PIECES.index("##sel")] == "sel"
    assert vocabulary.text_V[PIECES.index("cat")] == "cat"


def test_a_word_is_a_first_piece_and_what_goes_on_with_it(vocabulary: WordPieces) -> None:
    row = ids(ROW)
    words = [word_at(row, i, vocabulary) for i in range(1, ROW.index("[SEP]"))]
    of_pieces = ["ves", "the", "cats", "cats", ",", *["themselves"] * 3, "[UNK]", *["19th"] * 2]
    assert words == [*of_pieces, "'s", "'s", "a"]


def test_kinds_of_positions(vocabulary: WordPieces) -> None:
    position_P = np.asarray([2, 3, 4, 5, 6, 7, 8, 10, 11, 14])
    tokens_PxT = np.tile(ids(ROW), (len(position_P), 1))
    found = {
        kind: position_P[is_of_kind_P].tolist()
        for kind, is_of_kind_P in kinds_of(tokens_PxT, position_P, vocabulary).items()
    }
    assert found == {
        "function": [2, 6, 7, 8, 14],
        "content": [3, 4],
        "first": [2, 3, 5, 6, 10, 14],
        "continuation": [4, 7, 8, 11],
    }


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("Whereas", FUNCTION),
        ("t", FUNCTION),
        ("art", CONTENT),
        ("église", CONTENT),
        ("1914", None),
        ("--", None),
        ("[UNK]", None),
        ("", None),
    ],
)
def test_kinds_of_words(word: str, kind: str | None) -> None:
    assert kind_of_word(word) == kind


def test_function_words_are_words() -> None:
    assert all(word.isalpha() and word.islower() for word in FUNCTION_WORDS)
