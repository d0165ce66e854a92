"""The best scores of a model that sees an n-gram only: the plateaus of the loss before longer
context is used. In masked prediction the target lies within the n-gram, in next-token prediction
behind it.

Expected counts of n-grams are exact, and no sentence is enumerated. An n-gram of a concatenation
lies in its left part, in its right part, or across the joint. Those across need only the last n - 1
tokens of the left part and the first n - 1 of the right, which are independent given the rule.

A count is an array over positions: entry i is the expected number of n-grams that start at token i.
To move the counts of a right part behind a left one, they are convolved with the distribution of
the left part's length. The sum over positions is the count for a model that knows no positions.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.base.errors import UserError
from pcfg.grammar import Grammar, Rule
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


@dataclass(frozen=True)
class NextTokenPlateau:
    """The best scores of a model that predicts the next token from the last few; in nats."""

    accuracy: float
    cross_entropy: float


def ngram_counts(grammar: Grammar, n: int) -> ByPosition:
    """Expected number of n-grams around each position of a sentence `(T,)`, T the longest sentence,
    by n-gram.

    The window is that of `common.sequence.ngram.window`. Tokens are indices of terminals; V stands
    for any place before the sentence, V + 1 for any after it.
    """
    # The window's first token is n // 2 before its target, and as many are put before the
    # sentence: both count from the same position.
    return _counts_within(grammar, n, n // 2, n - 1 - n // 2)


def _counts_within(grammar: Grammar, n: int, num_before: int, num_after: int) -> ByPosition:
    """Expected number of n-grams by their first place `(T,)`, counted from the first of so many
    places before a sentence; T is as many as the longest sentence with its places has."""
    v = len(grammar.terminals)
    before, after = _repeated(v, num_before, n), _repeated(v + 1, num_after, n)
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
    num_starts = num_before + grammar.length_bounds()[1] + num_after - n + 1
    return {
        word: _plus(np.zeros(num_starts), count)[:num_starts]
        for word, count in start.counts.items()
    }


def last_tokens_optimum(
    grammar: Grammar, n: int, level: int, with_end: bool, knows_position: bool = False
) -> NextTokenPlateau:
    """The exact Bayes-optimal scores of a model that predicts the boundaries of a level (see
    pcfg/prefix.py) from the last n tokens before them.

    Each boundary counts once, as in a loss over many sentences. The model knows that it is scored
    at a boundary. Places before the sentence are seen as such.

    Args:
        grammar: what the sentences come from.
        n: how many tokens are seen; 0 gives the frequency of tokens.
        level: 0 for the root, up to the depth of the grammar, where every token is a boundary.
        with_end: whether the end of every sentence is predicted and scored too.
        knows_position: whether the model also knows how many tokens came before.

    Raises:
        UserError: there is no such level, or the table of windows would be too large.
    """
    if not 0 <= level <= grammar.depth:
        raise UserError(
            f"grammar {grammar.name} has levels 0 to {grammar.depth}; there are no boundaries of"
            f" level {level}"
        )
    v, longest = len(grammar.terminals), grammar.length_bounds()[1]
    if (v + 1) ** (n + 1) * (longest if knows_position else 1) > MAX_CELLS:
        raise UserError(f"{n} tokens over {v} terminals are too many to list; choose fewer")
    joint_VxNxT = _boundary_counts(grammar, n, level, with_end)
    if not knows_position:
        joint_VxNxT = np.sum(joint_VxNxT, axis=2, keepdims=True)
    joint_VxO = joint_VxNxT.reshape(v + 1, -1) / np.sum(joint_VxNxT)
    accuracy, cross_entropy = _scores(joint_VxO)
    return NextTokenPlateau(float(accuracy), float(cross_entropy))


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


def _boundary_counts(grammar: Grammar, n: int, level: int, with_end: bool) -> np.ndarray:
    """Expected number of boundaries of a level by their token (V: the end), by the n tokens before
    them, of which there are N combinations, and by position; `(V + 1, N, T)`."""
    v = len(grammar.terminals)
    counts = _counts_within(_with_boundaries(grammar, level), n + 1, n, int(with_end))
    found: dict[Words, np.ndarray] = {}
    for word, count_T in counts.items():
        *context, target = word
        if target < v:
            continue  # no boundary
        # Of 2 V terminals, V + v is v at a boundary; 2 V stands before the sentence, 2 V + 1 after.
        seen = tuple(token % v if token < 2 * v else v for token in context)
        joint_VxT = found.setdefault(seen, np.zeros((v + 1, len(count_T))))
        joint_VxT[min(target - v, v)] += count_T
    return np.stack(list(found.values()), axis=1)


def _with_boundaries(grammar: Grammar, level: int) -> Grammar:
    """The same sentences from two copies of every terminal: v as it is, and V + v where a node of
    this level ends."""
    levels: list[tuple[str, ...]] = []
    for i, symbols in enumerate(grammar.levels):
        ending = tuple(map(_ending, symbols))
        if i < level:
            levels.append(symbols)
        elif i == level < grammar.depth:
            levels.append(ending)
        else:
            levels.append(symbols + ending)
    rules: dict[str, tuple[Rule, ...]] = {}
    for i, symbols in enumerate(grammar.levels[:-1]):
        for symbol in symbols:
            own = grammar.rules[symbol]
            rules[_ending(symbol)] = tuple(_with_ending(rule, 1) for rule in own)
            if i == level - 1:
                own = tuple(_with_ending(rule, len(rule.children)) for rule in own)
            rules[symbol] = own
    return Grammar(grammar.name, tuple(levels), rules)


def _ending(symbol: str) -> str:
    """The copy of a symbol whose last token is a boundary."""
    return f"{symbol} ends"  # no symbol of a file has a space


def _with_ending(rule: Rule, num_last: int) -> Rule:
    """The rule with such copies for its last children."""
    first, last = rule.children[:-num_last], rule.children[-num_last:]
    return replace(rule, children=(*first, *map(_ending, last)))


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
