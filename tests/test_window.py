"""Bayes-optimal M_robust, M_close and n-gram plateaus against enumeration of all sentences."""

import itertools
import math
from collections import defaultdict
from dataclasses import asdict

import numpy as np
import pytest

from common.base.errors import UserError
from common.sequence import ngram
from pcfg.grammar import Grammar, load
from pcfg.ngrams import ngram_counts, window_optimum
from pcfg.posterior import Channel, Selection, optimal_prediction
from pcfg.window import window_distances
from tests import brute_force
from tests.brute_force import AMBIGUOUS, GRAMMARS

grammars = pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)
CHANNEL = Channel(rate=0.4, mask=0.7, random=0.2)


def window(n: int, target: int) -> range:
    first, last = ngram.window(n)
    return range(target + first, target + last + 1)


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    return 0.5 * float(np.abs(p - q).sum())


def test_windows_are_the_papers() -> None:
    assert {n: list(window(n, 30)) for n in (2, 3, 4, 5)} == {
        2: [29, 30],
        3: [29, 30, 31],
        4: [28, 29, 30, 31],
        5: [28, 29, 30, 31, 32],
    }


def masked_prediction(
    words: brute_force.Strings,
    v: int,
    word: tuple[int, ...],
    hidden: set[int],
    target: int,
    right: float,
    wrong: float,
) -> np.ndarray:
    """P(token at the target | the tokens not hidden, length), where a token is seen with these
    probabilities if it is the true one, or is not."""
    weight_V = np.zeros(v)
    for other, p in words.items():
        if len(other) == len(word):
            weight_V[other[target]] += p * math.prod(
                right if other[t] == word[t] else wrong for t in range(len(word)) if t not in hidden
            )
    return weight_V / weight_V.sum()


@grammars
@pytest.mark.parametrize("selection", ["unknown", "known", "hidden"])
def test_distances_against_enumeration(grammar: Grammar, selection: Selection) -> None:
    # A seen token may be one of the 40% selected, of which 20% are drawn anew; who is told what was
    # selected knows that it is not.
    v = len(grammar.terminals)
    wrong = 0.4 * 0.2 / v if selection == "unknown" else 0.0
    right = 0.6 + 0.4 * (0.1 + 0.2 / v) if selection == "unknown" else 1.0
    tokens_BxT, length_B = brute_force.sample(grammar, 8, 0)
    words, targets = (
        brute_force.strings(grammar),
        [(b, t) for b in range(8) for t in range(length_B[b])],
    )
    for n in (2, 3):
        found = window_distances(grammar, tokens_BxT, length_B, targets, n, CHANNEL, selection)
        for i, (b, t) in enumerate(targets):
            word = tuple(tokens_BxT[b, : length_B[b]].tolist())
            inside = set(window(n, t))
            alone, robust, close = (
                masked_prediction(words, v, word, hidden, t, right, wrong)
                for hidden in ({t}, inside, (set(range(len(word))) - inside) | {t})
            )
            assert found.robust_N[i] == pytest.approx(total_variation(alone, robust), abs=1e-12)
            assert found.close_N[i] == pytest.approx(total_variation(alone, close), abs=1e-12)
    assert found.robust_N.max() > 0.1
    assert found.close_N.max() > 0.1


def test_distances_refuse_bad_targets() -> None:
    tokens_BxT, length_B = brute_force.sample(AMBIGUOUS, 8, 0)
    with pytest.raises(UserError, match="outside its sentence"):
        window_distances(AMBIGUOUS, tokens_BxT, length_B, [(0, int(length_B[0]))], 3, CHANNEL)
    with pytest.raises(UserError, match="does not come from grammar"):
        window_distances(
            AMBIGUOUS,
            np.full_like(tokens_BxT, 2),
            length_B,
            [(int(np.argmax(length_B)), 0)],
            3,
            CHANNEL,
            "known",
        )


def padded_window(word: tuple[int, ...], n: int, target: int, v: int) -> tuple[int, ...]:
    def token_at(t: int) -> int:
        if t < 0:
            return v
        if t >= len(word):
            return v + 1
        return word[t]

    return tuple(map(token_at, window(n, target)))


@grammars
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 11])
def test_ngram_counts_against_enumeration(grammar: Grammar, n: int) -> None:
    v, longest = len(grammar.terminals), grammar.length_bounds()[1]
    expected: dict[tuple[int, ...], np.ndarray] = defaultdict(lambda: np.zeros(longest))
    for word, p in brute_force.strings(grammar).items():
        for t in range(len(word)):
            expected[padded_window(word, n, t, v)][t] += p
    found = ngram_counts(grammar, n)
    assert set(found) == set(expected)
    for gram, count_T in found.items():
        np.testing.assert_allclose(count_T, expected[gram], rtol=1e-10, atol=1e-15)


def window_scores(
    grammar: Grammar, n: int, channel: Channel, knows_position: bool, hidden: bool
) -> np.ndarray:
    """Accuracy and loss of the best guess from a window, on all selected positions and on masked
    ones, by listing whatever can be observed."""
    v = len(grammar.terminals)
    joint: dict[tuple, np.ndarray] = defaultdict(lambda: np.zeros(v))
    if_selected, unknown = (
        channel.likelihood(v, selected=True),
        channel.likelihood(v, selected=None),
    )
    if hidden:  # a selected neighbour is a gap, whatever stands there
        unknown = np.concatenate([(1 - channel.rate) * np.eye(v), np.full((1, v), channel.rate)])
    for word, prior in brute_force.strings(grammar).items():
        for t in range(len(word)):
            # Places outside the sentence stay what they are: V + 1 and V + 2 next to MASK, which is
            # V.
            true = [x if x < v else x + 1 for x in padded_window(word, n, t, v)]
            for seen in itertools.product(*(range(v + 1) if x < v else [x] for x in true)):
                p = prior
                for i, (o, x) in enumerate(zip(seen, true, strict=True)):
                    if x < v:
                        p *= if_selected[o, x] if i == n // 2 else unknown[o, x]
                joint[(seen, t if knows_position else None)][word[t]] += p
    weight = sum(float(p_V.sum()) for p_V in joint.values())
    scores = np.zeros((2, 2))
    for (seen, _), p_V in joint.items():
        parts = (
            np.asarray([p_V.max(), -sum(p * math.log(p / p_V.sum()) for p in p_V if p > 0)])
            / weight
        )
        scores += [parts, parts / channel.mask * (seen[n // 2] == v)]
    return scores.reshape(-1)


@grammars
@pytest.mark.parametrize("knows_position", [False, True])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_window_optimum_against_enumeration(
    grammar: Grammar, n: int, hidden: bool, knows_position: bool
) -> None:
    found = window_optimum(grammar, n, CHANNEL, knows_position, hidden)
    expected = window_scores(grammar, n, CHANNEL, knows_position, hidden)
    np.testing.assert_allclose(list(asdict(found).values()), expected, rtol=1e-10)


def test_plateaus_of_cfg3b() -> None:
    grammar = load("cfg3b")
    unigram = window_optimum(grammar, 1, Channel())
    assert unigram.cross_entropy == pytest.approx(1.049, abs=5e-4)
    assert unigram.cross_entropy_masked == pytest.approx(1.095, abs=5e-4)
    losses = [window_optimum(grammar, n, Channel()).cross_entropy for n in (1, 2, 3, 5)]
    assert losses == sorted(losses, reverse=True)
    assert window_optimum(grammar, 3, Channel(), knows_position=True).cross_entropy < losses[2]
    with pytest.raises(UserError, match="too many to list"):
        window_optimum(grammar, 15, Channel())


def test_without_masks_there_are_no_scores_of_masked_positions() -> None:
    found = window_optimum(AMBIGUOUS, 2, Channel(mask=0.0))
    assert (found.accuracy_masked, found.cross_entropy_masked) == (None, None)
    assert 0 < found.accuracy < 1


def test_a_window_as_wide_as_the_sentence_is_the_posterior() -> None:
    """With the whole sentence in sight the plateau is the exact average of the ceiling over all
    corruptions."""
    grammar = AMBIGUOUS.entered_at(1, "B")  # y z, y or x y: sees everything with a window of 3
    v, words = 3, brute_force.strings(grammar)
    rows, accuracy, loss, weight = [], 0.0, 0.0, 0.0
    unknown, if_selected = (
        CHANNEL.likelihood(v, selected=None),
        CHANNEL.likelihood(v, selected=True),
    )
    for length in (1, 2):
        rows += [(length, seen) for seen in itertools.product(range(v + 1), repeat=length)]
    tokens_BxT = np.asarray([[*seen, *[0] * (2 - length)] for length, seen in rows])
    prediction_BxTxV = optimal_prediction(
        grammar, tokens_BxT, np.asarray([length for length, _ in rows]), CHANNEL
    )
    for b, (length, seen) in enumerate(rows):
        for t in range(length):
            for word, p in words.items():
                if len(word) == length:
                    others = math.prod(unknown[seen[i], word[i]] for i in range(length) if i != t)
                    here = p * others * if_selected[seen[t], word[t]]
                    weight += here
                    accuracy += here * (word[t] == np.argmax(prediction_BxTxV[b, t]))
                    loss -= here * math.log(prediction_BxTxV[b, t, word[t]]) if here else 0
    found = window_optimum(grammar, 3, CHANNEL, knows_position=True)
    assert found.accuracy == pytest.approx(accuracy / weight, rel=1e-9)
    assert found.cross_entropy == pytest.approx(loss / weight, rel=1e-9)
