"""Kinds of tokens: function words and content words, first pieces of words and continuations.

The rule. A word is a first piece and the continuations that follow it. It is a function word if it
stands in `FUNCTION_WORDS`, whatever it does in its sentence: English words of the closed classes
(Huddleston and Pullum 2002: determinatives, pronouns, prepositions, coordinators, subordinators,
auxiliaries), the negation, and what is left of them by an apostrophe. It is a content word if it
begins with a letter and does not stand there. Numbers and punctuation are neither. A piece is of
the kind of its word; it is a first piece or a continuation besides.

A text in another language has no function words by this rule, or few.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from mlm.vocabulary import WordPieces

FUNCTION, CONTENT, FIRST, CONTINUATION = "function", "content", "first", "continuation"
WORDS = {
    FUNCTION: "function words",
    CONTENT: "content words",
    FIRST: "first pieces",
    CONTINUATION: "continuations",
}
"""What the kinds are called."""
DETERMINATIVES = """
    a an the this that these those each every either neither some any no all both half several
    many much more most few fewer fewest little less least enough such another other others what
    whatever which whichever whose
"""
PRONOUNS = """
    i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his
    himself she her hers herself it its itself they them their theirs themselves one oneself who
    whom whoever whomever someone somebody something anyone anybody anything everyone everybody
    everything nobody nothing none there thou thee thy thine thyself ye
"""
PREPOSITIONS = """
    about above across after against along alongside amid among amongst around as at before
    behind below beneath beside besides between beyond by despite down during except for from in
    inside into like near of off on onto out outside over past per since through throughout till
    to toward towards under underneath unlike until unto up upon versus via with within without
"""
CONJUNCTIONS = """
    and or but nor so yet if whether than then because although though unless while whilst
    whereas whereby wherein when whenever where wherever why how however
"""
"""Coordinators and subordinators, with the words that ask."""
AUXILIARIES = """
    am is are was were be been being have has had having do does did doing done will would shall
    should can could may might must ought cannot hath hast doth dost
"""
REMAINDERS = """
    not n t s d ll m re ve
"""
"""The negation, and what an apostrophe leaves of words."""
FUNCTION_WORDS = frozenset(
    " ".join(
        (DETERMINATIVES, PRONOUNS, PREPOSITIONS, CONJUNCTIONS, AUXILIARIES, REMAINDERS)
    ).split()
)


def word_at(tokens_T: Sequence[int], position: int, vocabulary: WordPieces) -> str:
    """The word that a piece is of, as far as the row holds it.

    Args:
        tokens_T: a row.
        position: of a piece, which is no special token.
        vocabulary: of the row.
    """

    def begins(token: int) -> bool:
        return bool(vocabulary.is_first_piece_V[token] or vocabulary.is_special_V[token])

    first = position
    while not begins(tokens_T[first]) and not vocabulary.is_special_V[tokens_T[first - 1]]:
        first -= 1
    following = itertools.takewhile(lambda token: not begins(token), tokens_T[first + 1 :])
    return "".join(vocabulary.text_V[token] for token in (tokens_T[first], *following))


def kind_of_word(word: str) -> str | None:
    """`FUNCTION`, `CONTENT`, or None of what is neither."""
    if word.lower() in FUNCTION_WORDS:
        return FUNCTION
    return CONTENT if word[:1].isalpha() else None


def kinds_of(
    tokens_PxT: np.ndarray, position_P: np.ndarray, vocabulary: WordPieces
) -> dict[str, np.ndarray]:
    """Which of some positions are of each kind, `(P,)` bool.

    Args:
        tokens_PxT: a row for each position.
        position_P: of pieces that are no special tokens.
        vocabulary: of the rows.
    """
    words = [
        word_at(tokens_T, position, vocabulary)
        for tokens_T, position in zip(tokens_PxT.tolist(), position_P.tolist(), strict=True)
    ]
    kind_P = np.asarray([kind_of_word(word) or "" for word in words])
    asked_P = np.take_along_axis(tokens_PxT, position_P[:, None], axis=1)[:, 0]
    is_first_P = vocabulary.is_first_piece_V[asked_P]
    return {
        FUNCTION: kind_P == FUNCTION,
        CONTENT: kind_P == CONTENT,
        FIRST: is_first_P,
        CONTINUATION: ~is_first_P,
    }
