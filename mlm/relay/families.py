"""Which sentences are parts of which: most lines of SST-2 are phrases of other lines, so that a
split by lines would ask for what has been learnt."""

from collections.abc import Iterator, Sequence

import numpy as np


def normal_form(text: str) -> str:
    """A text by which two are the same: in lower case, with single spaces."""
    return " ".join(text.casefold().split())


def heads_of(texts: Sequence[str]) -> np.ndarray:
    """For each sentence the number of the one that it is a phrase of: the longest, of those the
    first, that has it as a run of whole words; its own number, if there is none. A sentence that
    occurs twice is a phrase of the first.

    Args:
        texts: in normal form.
    """
    words_of = [text.split(" ") for text in texts]
    longest_first = sorted(range(len(texts)), key=lambda i: -len(words_of[i]))
    known = set(texts)
    head_of: dict[str, int] = {}
    head_N = np.zeros(len(texts), np.int64)
    for i in longest_first:
        if texts[i] not in head_of:
            for phrase in phrases(words_of[i]):
                if phrase in known:
                    head_of.setdefault(phrase, i)
        head_N[i] = head_of[texts[i]]
    return head_N


def phrases(words: Sequence[str]) -> Iterator[str]:
    """Every run of words, the whole among them."""
    for first in range(len(words)):
        for stop in range(first + 1, len(words) + 1):
            yield " ".join(words[first:stop])
