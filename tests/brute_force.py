"""Tiny grammars and everything about them by enumeration of all derivations, to test exact
algorithms against."""

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from pcfg.grammar import Grammar, parse_grammar

# Ambiguous (x y z has several derivations from S), probabilities unequal, one to four children,
# lengths 1 to 8.
AMBIGUOUS = parse_grammar(
    """
    S -> A B [0.5] | B A [0.2] | A [0.1] | B B B [0.2]
    A -> x y [0.25] | x [0.35] | z [0.4]
    B -> y z [0.6] | y [0.3] | x y [0.1]
    """,
    "ambiguous",
    "test",
)
# Two starts of equal probability below R, rules of one to four children, lengths 1 to 6.
SEVERAL = parse_grammar(
    """
    R -> P Q | Q
    P -> A B | A
    Q -> B A | B
    A -> x y | y | x
    B -> x x y x | y | y x
    """,
    "several",
    "test",
).entered_at(1)
GRAMMARS = {"ambiguous": AMBIGUOUS, "several": SEVERAL}
# Three levels of boundaries, rules of one to three children, lengths 1 to 10.
DEEP = parse_grammar(
    """
    S -> A B [0.6] | B [0.1] | A [0.3]
    A -> C D [0.5] | D [0.2] | C C D [0.3]
    B -> D C [0.7] | C [0.3]
    C -> x y [0.4] | x [0.6]
    D -> y x [0.25] | y [0.75]
    """,
    "deep",
    "test",
)

Strings = dict[tuple[int, ...], float]


def strings(grammar: Grammar) -> Strings:
    """Every sentence, as indices of terminals, with its probability: a sum over derivations."""
    found: dict[str, Strings] = {
        terminal: {(i,): 1.0} for i, terminal in enumerate(grammar.terminals)
    }
    for level in reversed(grammar.levels[:-1]):
        for symbol in level:
            total: Strings = defaultdict(float)
            for rule in grammar.rules[symbol]:
                for parts in itertools.product(*(found[child].items() for child in rule.children)):
                    word = tuple(itertools.chain.from_iterable(part for part, _ in parts))
                    total[word] += rule.probability * float(np.prod([p for _, p in parts]))
            found[symbol] = dict(total)
    starts: Strings = defaultdict(float)
    for symbol in grammar.levels[0]:
        for word, p in found[symbol].items():
            starts[word] += p / len(grammar.levels[0])
    return dict(starts)


Bounded = dict[tuple[tuple[int, int], ...], float]


def bounded_strings(grammar: Grammar) -> Bounded:
    """Every sentence with the boundaries of a derivation, and their probability. A token comes with
    the highest level (0 is the root's) of which a node ends there."""
    found: dict[str, Bounded] = {
        terminal: {((i, grammar.depth),): 1.0} for i, terminal in enumerate(grammar.terminals)
    }
    for level in range(grammar.depth - 1, -1, -1):
        for symbol in grammar.levels[level]:
            total: Bounded = defaultdict(float)
            for rule in grammar.rules[symbol]:
                for parts in itertools.product(*(found[child].items() for child in rule.children)):
                    tokens = list(itertools.chain.from_iterable(part for part, _ in parts))
                    tokens[-1] = (tokens[-1][0], level)
                    total[tuple(tokens)] += rule.probability * math.prod(p for _, p in parts)
            found[symbol] = dict(total)
    starts: Bounded = defaultdict(float)
    for symbol in grammar.levels[0]:
        for tokens, p in found[symbol].items():
            starts[tokens] += p / len(grammar.levels[0])
    return dict(starts)


def beginnings(grammar: Grammar) -> dict[tuple[int, ...], np.ndarray]:
    """Every beginning of a sentence, and the joint probability of it with each next token by the
    highest level that ends there, `(D, V + 1)`. In column V, row 0, the sentence is complete."""
    shape = grammar.depth + 1, len(grammar.terminals) + 1
    found: dict[tuple[int, ...], np.ndarray] = defaultdict(lambda: np.zeros(shape))
    for tokens, p in bounded_strings(grammar).items():
        word = tuple(v for v, _ in tokens)
        for t, (v, level) in enumerate(tokens):
            found[word[:t]][level, v] += p
        found[word][0, -1] += p
    return dict(found)


def after(found: Mapping[tuple[int, ...], np.ndarray], known: Sequence[int | None]) -> np.ndarray:
    """The sum of `beginnings` over those of this length that agree with what is known of each
    token, None if nothing is; `(D, V + 1)`."""
    total_DxV = np.zeros_like(found[()])
    for beginning, joint_DxV in found.items():
        if len(beginning) == len(known):
            agrees = all(v in (None, token) for v, token in zip(known, beginning, strict=True))
            total_DxV += joint_DxV * agrees
    return total_DxV


def posterior(words: Strings, evidence_TxV: np.ndarray, length: int) -> tuple[float, np.ndarray]:
    """P(evidence, length), and the joint probability of them with each token at each position."""
    joint_TxV = np.zeros_like(evidence_TxV)
    total = 0.0
    for word, prior in words.items():
        if len(word) == length:
            weight = prior * float(np.prod([evidence_TxV[t, v] for t, v in enumerate(word)]))
            total += weight
            for t, v in enumerate(word):
                joint_TxV[t, v] += weight
    return total, joint_TxV


def sample(grammar: Grammar, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random sentences `(B, T)` by recursion, 0 beyond the length, and their lengths."""
    rng = random.Random(seed)
    index = {terminal: i for i, terminal in enumerate(grammar.terminals)}

    def expand(symbol: str) -> list[int]:
        if symbol in index:
            return [index[symbol]]
        rules = grammar.rules[symbol]
        (rule,) = rng.choices(rules, [rule.probability for rule in rules])
        return [token for child in rule.children for token in expand(child)]

    words = [expand(rng.choice(grammar.levels[0])) for _ in range(count)]
    tokens_BxT = np.zeros((count, grammar.length_bounds()[1]), int)
    for row, word in zip(tokens_BxT, words, strict=True):
        row[: len(word)] = word
    return tokens_BxT, np.asarray([len(word) for word in words])
