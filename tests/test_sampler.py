"""Sampled sentences: they parse, their derivations are right, and their distribution is the
grammar's."""

import functools
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax.sharding import Mesh, PartitionSpec
from scipy import stats

from pcfg.grammar import SHIPPED, Grammar, load, parse_grammar
from pcfg.sampler import DRAWS, Sentences, chosen, last_draws, make_sampler
from pcfg.vocabulary import Vocabulary
from tests.test_grammar import TINY, distribution, grammar_texts

SEED = 0
SIGNIFICANCE = 1e-4  # the draws are fixed by the seed: this fails once and for all, or never


class Drawn(NamedTuple):
    """`Sentences` on the host."""

    tokens_BxT: np.ndarray
    length_B: np.ndarray
    ancestors_BxTxD: np.ndarray
    ends_BxTxD: np.ndarray


def host(sentences: Sentences) -> Drawn:
    return Drawn(*map(np.asarray, sentences))


def words_of(grammar: Grammar, sentences: Drawn) -> list[tuple[str, ...]]:
    """The terminals of every sentence, after checking what surrounds them."""
    vocabulary, found = Vocabulary(len(grammar.terminals)), []
    for tokens_T, length in zip(sentences.tokens_BxT, sentences.length_B, strict=True):
        assert tokens_T[0] == vocabulary.bos
        assert tokens_T[length + 1] == vocabulary.eos
        assert (tokens_T[length + 2 :] == vocabulary.pad).all()
        found.append(tuple(grammar.terminals[token] for token in tokens_T[1 : length + 1]))
    return found


def parses(grammar: Grammar, words: tuple[str, ...]) -> bool:
    """A plain recursive recogniser, from the words alone."""

    @functools.cache
    def stops(symbol: str, start: int) -> frozenset[int]:
        """Where a span of the symbol that begins at `start` may end."""
        if symbol not in grammar.rules:
            return frozenset([start + 1]) if words[start : start + 1] == (symbol,) else frozenset()
        found: set[int] = set()
        for rule in grammar.rules[symbol]:
            reached = {start}
            for child in rule.children:
                reached = {stop for middle in reached for stop in stops(child, middle)}
            found |= reached
        return frozenset(found)

    return any(len(words) in stops(symbol, 0) for symbol in grammar.levels[0])


def rules_used(
    grammar: Grammar, words: tuple[str, ...], ancestors_TxD: np.ndarray, ends_TxD: np.ndarray
) -> Counter[tuple[str, tuple[str, ...]]]:
    """The rules of a derivation, read from the ancestors and ends of its tokens, after checking
    that they make one."""
    used: Counter[tuple[str, tuple[str, ...]]] = Counter()

    def visit(level: int, start: int, stop: int) -> str:
        """The symbol whose span this is."""
        if level == grammar.depth:
            assert stop == start + 1
            return words[start]
        (index,) = set(ancestors_TxD[start:stop, level].tolist())
        assert ends_TxD[start:stop, level].tolist() == [False] * (stop - start - 1) + [True]
        is_end = (
            ends_TxD[start:stop, level + 1]
            if level + 1 < grammar.depth
            else np.ones(stop - start, bool)
        )
        stops = (start + 1 + np.flatnonzero(is_end)).tolist()
        assert stops[-1] == stop
        children = tuple(
            visit(level + 1, a, b) for a, b in zip([start, *stops[:-1]], stops, strict=True)
        )
        symbol = grammar.levels[level][index]
        assert children in {rule.children for rule in grammar.rules[symbol]}
        used[symbol, children] += 1
        return symbol

    assert visit(0, 0, len(words)) in grammar.levels[0]
    return used


def checked(
    grammar: Grammar, sentences: Drawn, num_parsed: int
) -> Counter[tuple[str, tuple[str, ...]]]:
    """All rules used in all sentences, after checking every derivation, and that the first
    sentences parse."""
    used: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for i, words in enumerate(words_of(grammar, sentences)):
        inside = slice(1, 1 + len(words))
        outside = np.ones(sentences.tokens_BxT.shape[1], bool)
        outside[inside] = False
        assert (sentences.ancestors_BxTxD[i, outside] == -1).all()
        assert not sentences.ends_BxTxD[i, outside].any()
        used += rules_used(
            grammar, words, sentences.ancestors_BxTxD[i, inside], sentences.ends_BxTxD[i, inside]
        )
        assert i >= num_parsed or parses(grammar, words)
    return used


def assert_rule_frequencies(grammar: Grammar, used: Counter[tuple[str, tuple[str, ...]]]) -> None:
    for symbol, rules in grammar.rules.items():
        counts = np.array([used[symbol, rule.children] for rule in rules])
        expected = counts.sum() * np.array([rule.probability for rule in rules])
        assert expected.min() > 5, f"too few {symbol} to judge"
        assert len(rules) == 1 or stats.chisquare(counts, expected).pvalue > SIGNIFICANCE, (
            f"{symbol}: {counts} instead of {expected}"
        )


def test_shapes_and_types() -> None:
    grammar = load("cfg3b")
    sentences = jax.eval_shape(
        lambda key: make_sampler(grammar).sample(key, 5), jax.random.key(SEED)
    )
    assert [(leaf.shape, leaf.dtype) for leaf in sentences] == [
        ((5, 434), "int32"),
        ((5,), "int32"),
        ((5, 434, 6), "int8"),
        ((5, 434, 6), "bool"),
    ]
    vocabulary = make_sampler(grammar).vocabulary
    assert (vocabulary.bos, vocabulary.eos, vocabulary.pad, vocabulary.mask, vocabulary.size) == (
        3,
        4,
        5,
        6,
        7,
    )
    many = parse_grammar(
        "S -> "
        + " | ".join(f"A{i}" for i in range(130))
        + "".join(f"\nA{i} -> x" for i in range(130)),
        "many",
        "many.txt",
    )
    ancestors = make_sampler(many).sample(jax.random.key(SEED), 500).ancestors_BxTxD
    assert (ancestors.dtype, ancestors.max(), ancestors.min()) == ("int32", 129, -1)


def test_ends_in_a_deep_grammar() -> None:
    depth = 130
    grammar = parse_grammar(
        "".join(f"S{i} -> S{i + 1}\n" for i in range(depth - 1)) + f"S{depth - 1} -> x y",
        "deep",
        "deep.txt",
    )
    ends_TxD = np.asarray(make_sampler(grammar).sample(jax.random.key(SEED), 1).ends_BxTxD[0])
    assert ends_TxD.shape == (4, depth)
    assert ends_TxD.any(axis=1).tolist() == [False, False, True, False] and ends_TxD[2].all()


@pytest.mark.parametrize("name", ["cfg3b", "cfg3f"])
def test_sentences_of_the_full_grammar(name: str) -> None:
    grammar = load(name)
    sentences = host(make_sampler(grammar).sample(jax.random.key(SEED), 64))
    shortest, longest = grammar.length_bounds()
    assert shortest <= sentences.length_B.min() < sentences.length_B.max() <= longest
    checked(grammar, sentences, num_parsed=8)


@given(text=grammar_texts())
@settings(max_examples=8)
def test_sentences_of_random_grammars(text: str) -> None:
    grammar = parse_grammar(text, "random", "random.txt")
    sentences = host(make_sampler(grammar).sample(jax.random.key(SEED), 400))
    used = checked(grammar, sentences, num_parsed=20)
    assert set(map(len, words_of(grammar, sentences))) <= set(
        range(grammar.length_bounds()[0], grammar.length_bounds()[1] + 1)
    )
    assert {symbol for symbol, _ in used} <= set(grammar.rules)


@pytest.mark.parametrize(
    ("grammar", "num_sentences"),
    [
        (load("cfg3b").entered_at(3), 4000),
        (parse_grammar(TINY, "tiny", "t"), 4000),
        *((load(path.stem), 200) for path in sorted(SHIPPED.glob("*.txt"))),
    ],
    ids=lambda given: given.name if isinstance(given, Grammar) else str(given),
)
def test_rule_frequencies_are_their_probabilities(grammar: Grammar, num_sentences: int) -> None:
    """Of every symbol of every level."""
    sentences = host(make_sampler(grammar).sample(jax.random.key(SEED), num_sentences))
    assert_rule_frequencies(
        grammar, checked(grammar, sentences, num_parsed=20 if num_sentences > 200 else 0)
    )
    starts = np.bincount(sentences.ancestors_BxTxD[:, 1, 0], minlength=len(grammar.levels[0]))
    assert len(starts) == 1 or stats.chisquare(starts).pvalue > SIGNIFICANCE


def test_whole_sentences_have_their_probabilities() -> None:
    """Against all sentences by brute force: the draws of one sentence are independent of each
    other."""
    grammar = parse_grammar(TINY, "tiny", "tiny.txt")
    expected = distribution(grammar, "S")
    sentences = host(make_sampler(grammar).sample(jax.random.key(SEED), 100_000))
    rows, counts = np.unique(sentences.tokens_BxT, axis=0, return_counts=True)
    some = Drawn(rows, (rows < 3).sum(1), *(np.zeros(0),) * 2)
    found = dict(zip(words_of(grammar, some), counts, strict=True))
    assert set(found) == set(expected)
    assert sum(expected.values()) == pytest.approx(1)
    observed = np.array([found[words] for words in expected])
    assert (
        stats.chisquare(observed, 100_000 * np.array(list(expected.values()))).pvalue > SIGNIFICANCE
    )


def test_draws_share_out_exactly() -> None:
    probabilities = np.array(
        [[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0], [0.1, 0.9 - 1e-12, 0.0]]
    )
    last = last_draws(probabilities).astype(np.int64)
    assert (last[:, -1] == DRAWS - 1).all()
    shares = np.diff(last, axis=1, prepend=-1)
    np.testing.assert_allclose(shares / DRAWS, probabilities, rtol=0, atol=1.01 / DRAWS)
    np.testing.assert_array_equal(shares[0], [2**31, 2**30, 2**30])
    np.testing.assert_array_equal(shares[2:, 2], 0)
    # At the edges: the draw that is the last one of an alternative, and the next.
    for row, draws, alternatives in (
        (1, last[1], [0, 1, 2]),
        (1, last[1, :2] + 1, [1, 2]),
        (2, [0, DRAWS - 1], [0, 0]),
    ):
        found = chosen(jnp.asarray(np.asarray(draws, np.uint32)), last_draws(probabilities)[[row]])
        np.testing.assert_array_equal(found, alternatives)


def test_the_stream_does_not_depend_on_how_it_is_split() -> None:
    sampler, key = make_sampler(load("cfg3b").entered_at(4)), jax.random.key(SEED)
    whole = host(sampler.sample(key, 8))
    assert len(set(map(bytes, whole.tokens_BxT))) > 6

    halves = [host(sampler.sample(key, 4, first)) for first in (0, 4)]
    scanned = jax.lax.scan(
        lambda carry, first: (carry, sampler.sample(key, 2, first)), None, jnp.arange(0, 8, 2)
    )[1]
    mapped = jax.vmap(lambda first: sampler.sample(key, 1, first))(jnp.arange(8))
    mesh, rows = Mesh(jax.devices()[:2], ("row",)), PartitionSpec("row")
    sharded = jax.shard_map(
        lambda first: sampler.sample(key, 4, first[0]), mesh=mesh, in_specs=rows, out_specs=rows
    )(jnp.asarray([0, 4]))
    for i, leaf in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([half[i] for half in halves]), leaf)
        np.testing.assert_array_equal(scanned[i].reshape(leaf.shape), leaf)
        np.testing.assert_array_equal(mapped[i].reshape(leaf.shape), leaf)
        np.testing.assert_array_equal(sharded[i], leaf)
    other = sampler.sample(jax.random.key(SEED + 1), 8)
    assert (whole.length_B != other.length_B).any()


def test_a_user_s_file_gives_the_sentences_of_the_shipped_one(tmp_path: Path) -> None:
    shipped = load("cfg3b")
    lines = [
        f"{symbol}->{' '.join(rule.children)}  [0.5]"
        for symbol, rules in shipped.rules.items()
        for rule in rules
        if len(rules) == 2
    ]
    (tmp_path / "mine.txt").write_text(
        "# cfg3b, one rule a line\n\n" + "\n".join(lines) + "\n9 -> 3 2 1 [1.0] # no other\n"
    )
    mine = load(str(tmp_path / "mine.txt"))
    assert mine.name == "mine"
    for level in (0, 3):
        ours, theirs = (
            make_sampler(grammar.entered_at(level)).sample(jax.random.key(SEED), 16).tokens_BxT
            for grammar in (mine, shipped)
        )
        np.testing.assert_array_equal(ours, theirs)
