"""Next-token prediction after every beginning of a sentence against enumeration of all
derivations."""

import itertools
import math
import random
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings

from common.base.errors import UserError
from pcfg.grammar import Grammar, load, parse_grammar
from pcfg.inside import leave_one_out
from pcfg.ngrams import last_tokens_optimum
from pcfg.posterior import entropy, plain_log_evidence
from pcfg.prefix import NextToken, next_token, next_token_ceiling
from tests import brute_force
from tests.brute_force import AMBIGUOUS, DEEP, SEVERAL
from tests.test_grammar import grammar_texts
from tests.test_posterior import log_space_z

PART = 64  # one size of batch, so that each grammar is compiled once
GRAMMARS = {"ambiguous": AMBIGUOUS, "several": SEVERAL, "deep": DEEP}
grammars = pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)


def as_arrays(
    grammar: Grammar, words: list[tuple[int, ...]], beyond: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, filled up with `beyond`, and lengths."""
    tokens_BxT = np.full((len(words), grammar.length_bounds()[1]), beyond)
    for row, word in zip(tokens_BxT, words, strict=True):
        row[: len(word)] = word
    return tokens_BxT, np.asarray([len(word) for word in words])


def check(
    grammar: Grammar,
    words: list[tuple[int, ...]],
    found: NextToken,
    seen_BxT: np.ndarray | None = None,
) -> None:
    """Compare what follows all beginnings of these words, or what is seen of them, with an
    enumeration."""
    beginnings = brute_force.beginnings(grammar)
    impossible = np.zeros((grammar.depth + 1, len(grammar.terminals) + 1))
    for b, word in enumerate(words):
        for t in range(found.end_BxT.shape[1]):
            if t > len(word):
                joint_DxV = impossible
            elif seen_BxT is None:
                joint_DxV = beginnings.get(word[:t], impossible)
            else:
                known = [
                    v if is_seen else None
                    for v, is_seen in zip(word[:t], seen_BxT[b, :t], strict=True)
                ]
                joint_DxV = brute_force.after(beginnings, known)
            total = joint_DxV.sum()
            expected_DxV = np.cumsum(joint_DxV, axis=0) / (total or 1)
            np.testing.assert_allclose(
                found.token_BxTxDxV[b, t], expected_DxV[:, :-1], rtol=1e-12, atol=1e-15
            )
            assert math.isclose(found.end_BxT[b, t], expected_DxV[-1, -1], rel_tol=1e-12)
            assert math.isclose(np.exp(found.log_prefix_BxT[b, t]), total, rel_tol=1e-12)


@grammars
def test_every_beginning_of_every_sentence(grammar: Grammar) -> None:
    words = list(brute_force.strings(grammar))
    assert min(map(len, words)) == 1
    tokens_BxT, length_B = as_arrays(grammar, words, beyond=-1)
    check(grammar, words, next_token(grammar, tokens_BxT, length_B, PART))


@grammars
def test_what_the_grammar_does_not_have(grammar: Grammar) -> None:
    """Sentences that are impossible from some token on, and such as are cut off."""
    rng = np.random.default_rng(0)
    shape = PART, grammar.length_bounds()[1]
    tokens_BxT = rng.integers(0, len(grammar.terminals), shape)
    length_B = rng.integers(0, shape[1] + 1, PART)
    words = [tuple(row[:n].tolist()) for row, n in zip(tokens_BxT, length_B, strict=True)]
    found = next_token(grammar, tokens_BxT, length_B, PART)
    check(grammar, words, found)
    is_possible_BxT = np.isfinite(found.log_prefix_BxT)
    within_BxT = np.arange(shape[1] + 1) <= length_B[:, None]
    assert is_possible_BxT[:, 0].all() and np.any(~is_possible_BxT & within_BxT)
    np.testing.assert_allclose(
        found.token_BxTxDxV[:, :, -1].sum(axis=-1) + found.end_BxT, is_possible_BxT, rtol=1e-12
    )


@grammars
def test_beginnings_of_which_tokens_are_not_seen(grammar: Grammar) -> None:
    """Of these only the places are known; whatever stands in the array there is ignored."""
    rng = np.random.default_rng(0)
    words = rng.permutation(np.asarray(list(brute_force.strings(grammar)), object))[:PART].tolist()
    tokens_BxT, length_B = as_arrays(grammar, words, beyond=-1)
    seen_BxT = rng.random(tokens_BxT.shape) < rng.random((len(words), 1))
    found = next_token(grammar, np.where(seen_BxT, tokens_BxT, -7), length_B, PART, seen_BxT)
    check(grammar, words, found, seen_BxT)
    # Where nothing is seen, what follows depends on the position alone.
    seen_BxT[:] = False
    found = next_token(grammar, tokens_BxT, length_B, PART, seen_BxT)
    check(grammar, words, found, seen_BxT)


def log_sentence(found: NextToken, tokens_BxT: np.ndarray, length_B: np.ndarray) -> np.ndarray:
    """The sum of ln P(next | tokens before) over a sentence and its end."""
    next_BxTxV = found.token_BxTxDxV[:, :-1, -1]
    true_BxT = np.take_along_axis(next_BxTxV, tokens_BxT[..., None], axis=-1)[..., 0]
    within_BxT = np.arange(tokens_BxT.shape[1]) < length_B[:, None]
    end_B = found.end_BxT[np.arange(len(length_B)), length_B]
    return np.sum(np.log(np.where(within_BxT, true_BxT, 1)), axis=1) + np.log(end_B)


@given(text=grammar_texts())
@settings(max_examples=10)
def test_random_grammars(text: str) -> None:
    grammar = parse_grammar(text, "random", "random.txt")
    words = random.Random(0).choices(list(brute_force.strings(grammar)), k=16)
    tokens_BxT, length_B = as_arrays(grammar, words)
    found = next_token(grammar, tokens_BxT, length_B)
    check(grammar, words, found)
    seen_BxT = np.random.default_rng(0).random(tokens_BxT.shape) < 0.5
    check(grammar, words, next_token(grammar, tokens_BxT, length_B, None, seen_BxT), seen_BxT)
    evidence_BxTxV = plain_log_evidence(tokens_BxT, len(grammar.terminals))
    log_z_B, _ = leave_one_out(grammar, evidence_BxTxV, length_B)
    np.testing.assert_allclose(log_sentence(found, tokens_BxT, length_B), log_z_B, atol=1e-12)


def test_cfg3f_against_logarithms() -> None:
    grammar = load("cfg3f").entered_at(2)
    tokens_BxT, length_B = brute_force.sample(grammar, 8, 0)
    found = next_token(grammar, tokens_BxT, length_B)
    evidence_BxTxV = plain_log_evidence(tokens_BxT, 3)
    np.testing.assert_allclose(
        log_sentence(found, tokens_BxT, length_B),
        [log_space_z(grammar, *of_one) for of_one in zip(evidence_BxTxV, length_B, strict=True)],
    )


def assert_chain_rule(found: NextToken, tokens_T: np.ndarray) -> None:
    """One more token is as probable as P(next) says, for every beginning of the one sentence."""
    next_T = found.token_BxTxDxV[0, np.arange(len(tokens_T)), -1, tokens_T]
    log_prefix_T = found.log_prefix_BxT[0]
    np.testing.assert_allclose(np.diff(log_prefix_T), np.log(next_T), rtol=1e-9, atol=1e-11)


def test_the_longest_sentence_of_cfg3f() -> None:
    grammar, rng = load("cfg3f"), random.Random(0)
    symbols = list(grammar.levels[0])
    while symbols[0] in grammar.rules:
        rules = [[r.children for r in grammar.rules[s] if len(r.children) == 3] for s in symbols]
        symbols = list(itertools.chain.from_iterable(map(rng.choice, rules)))
    assert len(symbols) == grammar.length_bounds()[1] == 729
    tokens_T = np.asarray([grammar.terminals.index(symbol) for symbol in symbols])
    found = next_token(grammar, tokens_T[None], np.asarray([729]))
    assert_chain_rule(found, tokens_T)
    assert found.log_prefix_BxT[0, -1] < -300
    assert math.isclose(found.end_BxT[0, -1], 1)
    assert found.token_BxTxDxV[0, 0, :, :].sum(axis=-1).tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_beyond_the_range_of_64_bits() -> None:
    grammar = parse_grammar(
        """
        S -> A A A
        A -> B B B
        B -> D D D
        D -> x [1e-9] | x x [1e-13] | y [0.999999998999]
        """,
        "rare",
        "test",
    )
    tokens_T = np.full(grammar.length_bounds()[1], grammar.terminals.index("x"))
    found = next_token(grammar, tokens_T[None], np.asarray([len(tokens_T)]))
    assert_chain_rule(found, tokens_T)
    # In the end it is clear that every D became x x.
    assert math.isclose(found.log_prefix_BxT[0, -1], 27 * math.log(1e-13))
    assert math.isclose(found.end_BxT[0, -1], 1)


@grammars
@pytest.mark.parametrize("with_end", [False, True])
def test_ceiling_against_enumeration(grammar: Grammar, with_end: bool) -> None:
    beginnings = brute_force.beginnings(grammar)
    sentences = list(brute_force.bounded_strings(grammar))[:PART]
    words = [tuple(v for v, _ in tokens) for tokens in sentences]
    tokens_BxT, length_B = as_arrays(grammar, words)
    ends_from = [tuple(level for _, level in tokens) for tokens in sentences]
    ends_from_BxT, _ = as_arrays(grammar, ends_from)
    following = next_token(grammar, tokens_BxT, length_B, PART)
    for level in range(grammar.depth + 1):
        predictions, true = [], []
        for tokens, word in zip(sentences, words, strict=True):
            for t, (v, highest) in enumerate([*tokens, (len(grammar.terminals), 0)]):
                if highest <= level and (with_end or t < len(word)):
                    weight_V = beginnings[word[:t]][: level + 1].sum(axis=0)
                    weight_V[-1] *= with_end
                    predictions.append(weight_V / weight_V.sum())
                    true.append(v)
        prediction_NxV, true_N = np.asarray(predictions), np.asarray(true)
        found = next_token_ceiling(
            following, tokens_BxT, length_B, ends_from_BxT <= level, level, with_end
        )
        assert found.num_positions == len(true_N)
        true_p_N = prediction_NxV[np.arange(len(true_N)), true_N]
        expected = {
            "accuracy": prediction_NxV.max(axis=1).mean(),
            "cross_entropy": entropy(prediction_NxV).mean(),
            "cross_entropy_here": -np.log(true_p_N).mean(),
        }
        np.testing.assert_allclose(
            [getattr(found, name) for name in expected], list(expected.values()), rtol=1e-12
        )


def best_from_last_tokens(
    grammar: Grammar, n: int, level: int, with_end: bool, knows_position: bool
) -> tuple[float, float]:
    """Accuracy and loss by listing the last n tokens before every boundary; V + 1 stands for places
    before the sentence, and V for the end."""
    v = len(grammar.terminals)
    joint: dict[tuple, np.ndarray] = defaultdict(lambda: np.zeros(v + 1))
    for tokens, p in brute_force.bounded_strings(grammar).items():
        padded = [v + 1] * n + [token for token, _ in tokens]
        for t, (token, highest) in enumerate([*tokens, (v, 0)]):
            if highest <= level and (with_end or t < len(tokens)):
                seen = tuple(padded[t : t + n])
                joint[seen, t if knows_position else None][token] += p
    weight = sum(p_V.sum() for p_V in joint.values())
    accuracy = sum(p_V.max() for p_V in joint.values()) / weight
    cross_entropy = sum(p_V.sum() * entropy(p_V / p_V.sum()) for p_V in joint.values()) / weight
    return accuracy, cross_entropy


@grammars
@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_the_best_from_the_last_tokens_against_enumeration(grammar: Grammar, n: int) -> None:
    for level, *flags in itertools.product(range(grammar.depth + 1), [False, True], [False, True]):
        found = last_tokens_optimum(grammar, n, level, *flags)
        expected = best_from_last_tokens(grammar, n, level, *flags)
        np.testing.assert_allclose(
            [found.accuracy, found.cross_entropy], expected, rtol=1e-10, atol=1e-12
        )


def test_what_is_refused() -> None:
    tokens_BxT, length_B = as_arrays(AMBIGUOUS, [(1, 0, 1)] * PART)
    wrong_BxT, _ = as_arrays(AMBIGUOUS, [(1, 0, 2)] * PART)
    nothing, every = np.zeros(tokens_BxT.shape, bool), np.ones(tokens_BxT.shape, bool)
    with pytest.raises(UserError, match="does not fit"):
        next_token(AMBIGUOUS, tokens_BxT, length_B + 7)
    with pytest.raises(UserError, match="without BOS"):
        next_token(AMBIGUOUS, -tokens_BxT, length_B)
    with pytest.raises(UserError, match="shortest sentence"):
        next_token(load("cfg3f"), tokens_BxT, length_B)
    found = next_token(AMBIGUOUS, tokens_BxT, length_B)
    with pytest.raises(UserError, match="levels 0 to 2"):
        next_token_ceiling(found, tokens_BxT, length_B, every, 3, with_end=False)
    with pytest.raises(UserError, match="nothing to score"):
        next_token_ceiling(found, tokens_BxT, length_B, nothing, 1, with_end=False)
    with pytest.raises(UserError, match="cannot come from the grammar"):
        next_token_ceiling(found, wrong_BxT, length_B, every, 2, with_end=False)
    # y x y is a sentence, y alone is none.
    with pytest.raises(UserError, match="boundaries of level 0"):
        next_token_ceiling(found, tokens_BxT, length_B, every, 0, with_end=False)
    with pytest.raises(UserError, match="levels 0 to 2"):
        last_tokens_optimum(AMBIGUOUS, 1, -1, with_end=False)
    with pytest.raises(UserError, match="too many to list"):
        last_tokens_optimum(AMBIGUOUS, 20, 1, with_end=False)
