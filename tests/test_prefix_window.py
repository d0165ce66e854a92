"""close(n) and robust(n) of the best next-token prediction against enumeration of all
derivations."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from common.base.errors import UserError
from pcfg.grammar import Grammar, parse_grammar
from pcfg.prefix_window import BestOfPrefixes
from tests import brute_force
from tests.brute_force import AMBIGUOUS, DEEP, SEVERAL

GRAMMARS = {"ambiguous": AMBIGUOUS, "several": SEVERAL, "deep": DEEP}
grammars = pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)
Prefix = tuple[int, ...]


def prefixes_of(grammar: Grammar, level: int, with_end: bool) -> list[Prefix]:
    """Beginnings behind which a boundary of the level may come, or the end."""
    return [
        beginning
        for beginning, joint_DxV in brute_force.beginnings(grammar).items()
        if beginning and answers(joint_DxV, level, with_end).any()
    ]


def answers(joint_DxV: np.ndarray, level: int, with_end: bool) -> np.ndarray:
    """What may be answered: tokens that end a node of the level, and the end."""
    token_V = joint_DxV[: level + 1, :-1].sum(axis=0)
    return np.append(token_V, joint_DxV[0, -1]) if with_end else token_V


def best_of(
    grammar: Grammar, prefixes: Sequence[Prefix], level: int, with_end: bool
) -> BestOfPrefixes:
    tokens_PxT = np.full((len(prefixes), grammar.length_bounds()[1] + 2), -1)
    for row, prefix in zip(tokens_PxT, prefixes, strict=True):
        row[: len(prefix)] = prefix
    return BestOfPrefixes(
        grammar, tokens_PxT, np.asarray(list(map(len, prefixes))), level, with_end
    )


def removed(prefix: Prefix, n: int) -> tuple[list[int | None], list[int | None]]:
    """What robust(n) and close(n) leave of a prefix."""
    before, window = list(prefix[:-n]), list(prefix[-n:])
    robust = [*before, *[None] * (len(window) - 1), window[-1]]
    close = [*[None] * len(before), *window]
    return robust, close


@grammars
@pytest.mark.parametrize("with_end", [False, True])
def test_distances_against_enumeration(grammar: Grammar, with_end: bool) -> None:
    beginnings = brute_force.beginnings(grammar)

    def prediction(known: Sequence[int | None], level: int) -> np.ndarray:
        answers_C = answers(brute_force.after(beginnings, known), level, with_end)
        return answers_C / answers_C.sum()

    largest_2 = []
    for level, n in itertools.product(range(1, grammar.depth + 1), (1, 2, 4)):
        prefixes = prefixes_of(grammar, level, with_end)
        prefixes = prefixes[:: -(-len(prefixes) // 24)]
        found_2xP = best_of(grammar, prefixes, level, with_end).distances(n)
        for p, prefix in enumerate(prefixes):
            whole = prediction(prefix, level)
            expected = [
                np.abs(prediction(known, level) - whole).sum() / 2 for known in removed(prefix, n)
            ]
            np.testing.assert_allclose(found_2xP[:, p], expected, rtol=1e-10, atol=1e-13)
        largest_2.append(found_2xP.max(axis=1))
    assert np.max(largest_2, axis=0).min() > 0.3, "both move somewhere"


@grammars
def test_distances_are_zero_where_nothing_is_removed(grammar: Grammar) -> None:
    prefixes = prefixes_of(grammar, grammar.depth, with_end=True)
    best, longest = best_of(grammar, prefixes, grammar.depth, True), max(map(len, prefixes))
    for n, shorter in itertools.product((1, 3, longest), (False, True)):
        robust_P, close_P = best.distances(n)
        if n == 1:
            np.testing.assert_allclose(robust_P, 0, atol=1e-14)
        fits_P = best.length_P < n if shorter else best.length_P == n
        np.testing.assert_allclose(close_P[fits_P], 0, atol=1e-14)
    assert best.distances(1)[1].max() > 0.1


def test_arrays_may_be_narrower_than_any_sentence() -> None:
    """As those of a model that never reads a last token: all of these sentences have three."""
    grammar = parse_grammar("S -> A B | B A\nA -> x | y\nB -> x y [0.2] | y y [0.8]", "", "")
    best = BestOfPrefixes(grammar, np.asarray([[0, 1], [1, 1]]), np.asarray([2, 2]), 2, False)
    expected_PxV = []
    for prefix in ((0, 1), (1, 1)):
        answers_V = answers(brute_force.beginnings(grammar)[prefix], 2, False)
        expected_PxV.append(answers_V / answers_V.sum())
    np.testing.assert_allclose(best.whole_PxC, expected_PxV, rtol=1e-12)


def test_what_follows_no_prefix_of_the_grammar_is_refused() -> None:
    # y x y is a sentence, of which nothing ends at level 1 behind y x; z z comes in none.
    with pytest.raises(UserError, match="boundary of level 1 behind it cannot come"):
        best_of(AMBIGUOUS, [(2, 2, 2, 2, 2, 2)], 1, False).distances(1)
