"""The best scores of a model that sees an n-gram only: the plateaus of the loss before longer
context is used.

Expected counts of n-grams are exact, and no sentence is enumerated. An n-gram of a concatenation
lies in its left part, in its right part, or across the joint. Those across need only the last n - 1
tokens of the left part and the first n - 1 of the right, which are independent given the rule.

A count is an array over positions: entry i is the expected number of n-grams that start at token i.
To move the counts of a right part behind a left one, they are convolved with the distribution of
the left part's length. The sum over positions is the count for a model that knows no positions.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.base.errors import UserError
from pcfg.grammar import Grammar
from pcfg.posterior import Channel, entropy

Words = tuple[int, ...]
ByPosition = dict[Words, np.ndarray]
"""A word (some tokens in order) to an array over positions, or over lengths."""

MAX_CELLS = 2**25
"""Most entries of a joint table of observations and true token."""


@dataclass(frozen=True)
class Edges:
    """What a concatenation needs to know of a part: a symbol, whose yield is random, or several."""

    length: np.ndarray
    """Entry i: probability of length i."""
    prefix: Mapping[Words, float]
    """Probabilities of the first n - 1 tokens; a yield of fewer tokens is a word of its own."""
    suffix: Mapping[Words, np.ndarray]
    """Probabilities of the last n - 1 tokens, each an array over the length of the yield."""
    counts: Mapping[Words, np.ndarray]
    """Expected number of n-grams, each an array over the position of their first token."""


@dataclass(frozen=True)
class Plateau:
    """The best scores of a model that sees an n-gram, on all selected positions and on those that
    became MASK only (None if none does); in nats."""

    accuracy: float
    cross_entropy: float
    accuracy_masked: float | None
    cross_entropy_masked: float | None


def ngram_counts(grammar: Grammar, n: int) -> ByPosition:
    """Expected number of n-grams around each position of a sentence `(T,)`, T the longest sentence,
    by n-gram.

    The window is that of `common.sequence.ngram.window`. Tokens are indices of terminals; V stands
    for any place before the sentence, V + 1 for any after it.
    """
    v = len(grammar.terminals)
    before, after = _repeated(v, n // 2, n), _repeated(v + 1, n - 1 - n // 2, n)
    parts = {terminal: _repeated(i, 1, n) for i, terminal in enumerate(grammar.terminals)}
    for level in reversed(grammar.levels[:-1]):
        for symbol in level:
            yields = [
                (rule.probability, _joined([parts[child] for child in rule.children], n))
                for rule in grammar.rules[symbol]
            ]
            parts[symbol] = _mixed(yields)
    starts = grammar.levels[0]
    sentences = [_joined([before, parts[symbol], after], n) for symbol in starts]
    start = _mixed([(1 / len(starts), sentence) for sentence in sentences])
    longest = grammar.length_bounds()[1]
    # The window's first token is n // 2 before its target, and as many were put before the
    # sentence: both count from the same position.
    return {word: _plus(np.zeros(longest), count)[:longest] for word, count in start.counts.items()}


def window_optimum(
    grammar: Grammar, n: int, channel: Channel, knows_position: bool = False, hidden: bool = False
) -> Plateau:
    """The exact Bayes-optimal scores of a model that sees only the corrupted n-gram around a scored
    position.

    Each token counts once, as in a loss over many sentences. The model knows that the target was
    selected, because it is scored, but not which other positions were. It sees which places lie
    before or after the sentence.

    Args:
        grammar: what the sentences come from.
        n: width of the window; 1 is the frequency of tokens together with the token's own, possibly
            corrupted, value.
        channel: what corrupts them.
        knows_position: whether the model also knows the position in the sentence (but not the
            sentence's length).
        hidden: whether nothing is seen of the other selected tokens
            (`MaskingConfig.hide_selected`).

    Raises:
        UserError: the table of observations would be too large.
    """
    v = len(grammar.terminals)
    if v * (v + 3) ** (n - 1) > MAX_CELLS:
        raise UserError(
            f"windows of {n} tokens over {v} terminals are too many to list; choose a smaller n"
        )
    counts = ngram_counts(grammar, n)
    words = sorted(counts)
    count_NxT = np.stack([counts[word] for word in words])
    columns_NxT = count_NxT if knows_position else np.sum(count_NxT, axis=1, keepdims=True)
    probability_NxT = columns_NxT / np.sum(columns_NxT)
    if_selected = channel.likelihood(v, selected=True)
    elsewhere = Channel(channel.rate, mask=1.0, random=0.0) if hidden else channel
    totals = np.zeros((v + 1, 2))
    for column_N in probability_NxT.T:
        joint_VxO = _observed_contexts(v, n, np.asarray(words), column_N, elsewhere)
        for own in range(v + 1):
            totals[own] += _scores(joint_VxO * if_selected[own][:, None])
    accuracy, cross_entropy = np.sum(totals, axis=0)
    if not channel.mask:
        return Plateau(float(accuracy), float(cross_entropy), None, None)
    accuracy_masked, cross_entropy_masked = totals[v] / channel.mask
    return Plateau(
        float(accuracy), float(cross_entropy), float(accuracy_masked), float(cross_entropy_masked)
    )


def _observed_contexts(
    v: int, n: int, words_NxJ: np.ndarray, probability_N: np.ndarray, channel: Channel
) -> np.ndarray:
    """P(true target, observed tokens around it) `(V, O)`: the n-grams' table, passed through the
    channel along every axis but the target's."""
    target = n // 2
    table = np.zeros([v if i == target else v + 2 for i in range(n)])
    np.add.at(table, tuple(words_NxJ.T), probability_N)
    # Observations: the terminals, MASK, and the two kinds of places outside the sentence, which are
    # never corrupted.
    likelihood_OxV = np.zeros((v + 3, v + 2))
    likelihood_OxV[: v + 1, :v] = channel.likelihood(v, selected=None)
    likelihood_OxV[v + 1, v] = likelihood_OxV[v + 2, v + 1] = 1
    table = np.moveaxis(table, target, 0)
    for _ in range(n - 1):
        # Takes the next axis away from the front and puts its observation last.
        table = np.tensordot(table, likelihood_OxV, axes=([1], [1]))
    return table.reshape(v, -1)


def _scores(joint_VxO: np.ndarray) -> np.ndarray:
    """Parts of the accuracy and of the conditional entropy that these joint probabilities
    contribute."""
    total_O = np.sum(joint_VxO, axis=0)
    return np.asarray(
        [
            np.sum(np.max(joint_VxO, axis=0)),
            np.sum(entropy(joint_VxO.T)) - np.sum(entropy(total_O[:, None])),
        ]
    )


def _repeated(token: int, times: int, n: int) -> Edges:
    """The part that is always the same token, `times` times."""
    word = (token,) * min(times, n - 1)
    # Longer n-grams never lie inside a terminal, or inside an end, which has n - 1 tokens at most.
    counts = {(token,): np.ones(times)} if n == 1 and times else {}
    return Edges(_unit(times), {word: 1.0}, {word: _unit(times)}, counts)


def _joined(parts: list[Edges], n: int) -> Edges:
    """The concatenation of independent parts."""
    left = parts[0]
    for right in parts[1:]:
        left = _pair(left, right, n)
    return left


def _pair(left: Edges, right: Edges, n: int) -> Edges:
    counts = dict(left.counts)
    for word, count in right.counts.items():
        counts[word] = _plus(counts.get(word), np.convolve(left.length, count))
    for word, count in _across(left, right, n):
        counts[word] = _plus(counts.get(word), count)
    return Edges(
        np.convolve(left.length, right.length),
        _grouped(_prefixes(left, right, n)),
        _grouped(_suffixes(left, right, n)),
        counts,
    )


def _across(left: Edges, right: Edges, n: int) -> Iterator[tuple[Words, np.ndarray]]:
    """Counts of the n-grams that begin in the left part and end in the right one."""
    for num_right in range(1, n):
        num_left = n - num_right
        heads = _grouped(
            (word[:num_right], p) for word, p in right.prefix.items() if len(word) >= num_right
        )
        # In a left part of length i these n-grams start at i - num_left.
        tails = _grouped(
            (word[-num_left:], by_length[num_left:])
            for word, by_length in left.suffix.items()
            if len(word) >= num_left
        )
        for tail, by_start in tails.items():
            for head, p in heads.items():
                yield tail + head, p * by_start


def _prefixes(left: Edges, right: Edges, n: int) -> Iterator[tuple[Words, float]]:
    for a, p in left.prefix.items():
        if len(a) == n - 1:
            yield a, p
        else:  # a whole left part: the beginning of the right part follows
            for b, q in right.prefix.items():
                yield (a + b)[: n - 1], p * q


def _suffixes(left: Edges, right: Edges, n: int) -> Iterator[tuple[Words, np.ndarray]]:
    for b, by_length in right.suffix.items():
        if len(b) == n - 1:
            yield b, np.convolve(left.length, by_length)
        else:
            for a, left_by_length in left.suffix.items():
                word = a + b
                last = word[max(0, len(word) - (n - 1)) :]
                yield last, np.convolve(left_by_length, by_length)


def _mixed(parts: list[tuple[float, Edges]]) -> Edges:
    """The part that is one of several, with these probabilities."""
    length = _grouped(((), p * part.length) for p, part in parts)[()]

    def mixed(name: str) -> dict[Words, Any]:
        weighted = []
        for p, part in parts:
            weighted += [(word, p * weight) for word, weight in getattr(part, name).items()]
        return _grouped(weighted)

    return Edges(length, mixed("prefix"), mixed("suffix"), mixed("counts"))


def _grouped(pairs: Iterable[tuple[Words, Any]]) -> dict[Words, Any]:
    """Sums of what belongs to the same word; arrays of different lengths count as followed by
    zeros."""
    sums: dict[Words, Any] = defaultdict(lambda: None)
    for word, weight in pairs:
        sums[word] = _plus(sums[word], weight)
    return dict(sums)


def _plus(a: Any, b: Any) -> Any:
    """The sum of two numbers, or of two arrays as in `_grouped`; None counts as zero."""
    if a is None:
        return b
    if np.ndim(b) == 0:
        return a + b
    if len(a) < len(b):
        a, b = b, a
    return a + np.pad(b, (0, len(a) - len(b)))


def _unit(index: int) -> np.ndarray:
    """The distribution of a length that is `index` for certain."""
    return np.arange(index + 1) == index + 0.0
