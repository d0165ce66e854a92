"""Sentences of a grammar, drawn on the device: every level of all derivations is expanded at once,
in arrays of fixed shapes.

A level of one derivation is an array of N places for symbols, as many as the largest derivation
needs; the first `count` are in use. The symbol in each place draws an alternative. The running sum
of the numbers of children tells where its children stand in the next level, an array of T places.
`benchmarks/pcfg_sampler.py` compares the speed with that of plain recursions.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common.base.errors import UserError
from pcfg.grammar import Grammar
from pcfg.vocabulary import Vocabulary

DRAWS = 2**32
"""The number of values of one draw. Probabilities are rounded to multiples of 1 / DRAWS."""
MAX_LENGTH = 2**20
"""The most tokens of a grammar's longest sentence: more than a model can read, too few to fill the
memory."""


class Sentences(NamedTuple):
    """Sentences and their derivations. T is the length of the longest sentence + 2, D the depth of
    the grammar. A field that a compiled caller does not use costs nothing."""

    tokens_BxT: jax.Array
    """BOS, terminals, EOS, then PAD; int32."""
    length_B: jax.Array
    """Number of terminals; int32."""
    ancestors_BxTxD: jax.Array
    """The ancestor of the token at each level above the terminals, as an index into
    `grammar.levels[level]`; -1 at BOS, EOS and PAD; int8, or int32 where a level has more than 127
    symbols."""
    ends_BxTxD: jax.Array
    """Whether the token is the last one below that ancestor; False at BOS, EOS and PAD."""


class LevelTable(NamedTuple):
    """The rules of one level as arrays: symbols x alternatives (x children), filled up to the
    largest numbers."""

    last_draw_YxX: np.ndarray
    """The largest draw that chooses this alternative, uint32; DRAWS - 1 from the last alternative
    on."""
    count_YxX: np.ndarray
    """Number of children."""
    children_YxXxJ: np.ndarray
    """Children, as indices into the next level."""
    width: int
    """The most symbols that a derivation has in this level."""


@dataclass(frozen=True, eq=False)
class Sampler:
    """Draws sentences of one grammar; made by `make_sampler`."""

    vocabulary: Vocabulary
    start_draws_X: np.ndarray
    """The largest draw that chooses each start symbol, uint32."""
    tables: tuple[LevelTable, ...]
    """One for each level above the terminals, from the start down."""
    longest: int
    """Terminals in the longest sentence."""
    index_type: type[np.signedinteger]
    """The type of `Sentences.ancestors_BxTxD`."""

    @functools.partial(jax.jit, static_argnames=("self", "num_sentences"))
    def sample(self, key: jax.Array, num_sentences: int, first: int | jax.Array = 0) -> Sentences:
        """Draw sentences `first` to `first + num_sentences - 1` of a key's stream; compiled.

        Sentence i is a function of fold_in(key, i). So the stream is the same however it is split
        into batches or over devices.
        """
        indices_B = jnp.asarray(first, jnp.uint32) + jnp.arange(num_sentences, dtype=jnp.uint32)
        return jax.vmap(lambda index: self._sentence(jax.random.fold_in(key, index)))(indices_B)

    def _sentence(self, key: jax.Array) -> Sentences:
        """One sentence, as `Sentences` without the axis B."""
        draws = jax.random.bits(key, (1 + sum(table.width for table in self.tables),), jnp.uint32)
        symbols_N, count = chosen(draws[:1], self.start_draws_X[None]), jnp.int32(1)
        ancestors_NxD = jnp.zeros((1, 0), self.index_type)
        # The last token below an ancestor is the last one below all its lower ancestors too, so
        # that the highest such level says it all.
        ends_from_N = jnp.zeros(1, jnp.int32)
        offset = 1
        widths = [*(table.width for table in self.tables[1:]), self.longest]
        for level, (table, width) in enumerate(zip(self.tables, widths, strict=True)):
            draws_N, offset = draws[offset : offset + table.width], offset + table.width
            parent_T, child_T, is_last_T, count = _expand(table, width, draws_N, symbols_N, count)
            own_Nx1 = symbols_N[:, None].astype(self.index_type)
            ancestors_NxD = _take(jnp.concatenate([ancestors_NxD, own_Nx1], axis=1), parent_T)
            ends_from_N = jnp.where(is_last_T, _take(ends_from_N, parent_T), level + 1)
            symbols_N = child_T  # the places of the next level are those of the next pass
        ends_NxD = jnp.arange(len(self.tables))[None] >= ends_from_N[:, None]
        return self._framed(symbols_N, count, ancestors_NxD, ends_NxD)

    def _framed(
        self, tokens_N: jax.Array, count: jax.Array, ancestors_NxD: jax.Array, ends_NxD: jax.Array
    ) -> Sentences:
        """The sentence between BOS and EOS; places beyond `count` are blanked."""
        vocabulary, inside_N = self.vocabulary, jnp.arange(self.longest) < count
        words_N = jnp.where(inside_N, tokens_N, vocabulary.pad)
        tokens_T = jnp.pad(words_N, 1, constant_values=vocabulary.pad)
        is_eos_T = jnp.arange(self.longest + 2) == count + 1
        tokens_T = jnp.where(is_eos_T, vocabulary.eos, tokens_T).at[0].set(vocabulary.bos)
        ancestors_NxD = jnp.where(inside_N[:, None], ancestors_NxD, -1)
        ends_NxD = inside_N[:, None] & ends_NxD
        around = ((1, 1), (0, 0))
        return Sentences(
            tokens_T.astype(jnp.int32),
            count,
            jnp.pad(ancestors_NxD, around, constant_values=-1),
            jnp.pad(ends_NxD, around),
        )


@functools.lru_cache(maxsize=16)
def make_sampler(grammar: Grammar) -> Sampler:
    """The sampler of a grammar. Equal grammars have the same one, and so share compiled programs.

    Raises:
        UserError: its sentences are too long for arrays.
    """
    if (longest := grammar.length_bounds()[1]) > MAX_LENGTH:
        raise UserError(
            f"sentences of {grammar.name} may have more than {MAX_LENGTH:,} tokens; begin at a"
            " lower level (--data.start-level)"
        )
    start = np.full((1, len(grammar.levels[0])), 1 / len(grammar.levels[0]))
    return Sampler(
        vocabulary=Vocabulary(len(grammar.terminals)),
        start_draws_X=last_draws(start)[0],
        tables=tuple(_table(grammar, level) for level in range(grammar.depth)),
        longest=longest,
        index_type=np.int8 if max(map(len, grammar.levels)) <= np.iinfo(np.int8).max else np.int32,
    )


def last_draws(probabilities_YxX: np.ndarray) -> np.ndarray:
    """The largest draw that chooses each alternative, from probabilities; uint32, `(Y, X)` each.

    Alternative a is chosen by the draws above `last_draws[a - 1]`, up to and with `last_draws[a]`.
    Its share of all draws is off by at most 1 / DRAWS. An alternative of probability 0, which only
    fills up the array, is never chosen.
    """
    boundaries_YxX = np.rint(np.cumsum(probabilities_YxX, axis=1) * DRAWS)
    # Sums end at 1 only up to rounding: the last alternative takes the rest, whatever it is.
    last_Yx1 = np.count_nonzero(probabilities_YxX, axis=1, keepdims=True) - 1
    boundaries_YxX[np.arange(probabilities_YxX.shape[1]) >= last_Yx1] = DRAWS
    return (np.clip(boundaries_YxX, 1, DRAWS) - 1).astype(np.uint32)


def _table(grammar: Grammar, level: int) -> LevelTable:
    symbols = grammar.levels[level]
    index = {symbol: i for i, symbol in enumerate(grammar.levels[level + 1])}
    rules = [grammar.rules[symbol] for symbol in symbols]
    most_rules = max(map(len, rules))
    most_children = max(len(rule.children) for alternatives in rules for rule in alternatives)
    probabilities_YxX = np.zeros((len(symbols), most_rules))
    count_YxX = np.zeros((len(symbols), most_rules), np.int32)
    children_YxXxJ = np.zeros((len(symbols), most_rules, most_children), np.int32)
    for s, alternatives in enumerate(rules):
        for a, rule in enumerate(alternatives):
            probabilities_YxX[s, a], count_YxX[s, a] = rule.probability, len(rule.children)
            children_YxXxJ[s, a, : len(rule.children)] = [index[child] for child in rule.children]
    return LevelTable(
        last_draws(probabilities_YxX), count_YxX, children_YxXxJ, grammar.width_bounds(level)[1]
    )


def _expand(
    table: LevelTable, width: int, draws_N: jax.Array, symbols_N: jax.Array, count: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The next level: the parent in each of its places, the symbol, and whether that is the last
    child of its parent, `(T,)` each with T = `width`; and the number of places in use."""
    most_rules, most_children = table.children_YxXxJ.shape[1:]
    flat_N = symbols_N * most_rules + chosen(draws_N, _take(table.last_draw_YxX, symbols_N))
    count_N = jnp.where(
        jnp.arange(table.width) < count, _take(table.count_YxX.reshape(-1), flat_N), 0
    )
    after_N = jnp.cumsum(count_N)
    nth_J = jnp.arange(most_children)[None]
    # Children that do not exist go to the place `width`, which does not exist either.
    place_NxJ = jnp.where(nth_J < count_N[:, None], (after_N - count_N)[:, None] + nth_J, width)
    empty_T = jnp.zeros(width, jnp.int32)
    child_T = empty_T.at[place_NxJ].set(
        _take(table.children_YxXxJ.reshape(-1, most_children), flat_N), mode="drop"
    )
    parent_T = empty_T.at[place_NxJ].set(jnp.arange(table.width)[:, None], mode="drop")
    return parent_T, child_T, empty_T.astype(bool).at[after_N - 1].set(True), after_N[-1]


def chosen(draws_N: jax.Array, last_draw_NxX: jax.Array | np.ndarray) -> jax.Array:
    """Index of the alternative that each draw chooses."""
    return jnp.sum(draws_N[:, None] > last_draw_NxX, axis=1, dtype=jnp.int32)


def _take(values: jax.Array | np.ndarray, indices: jax.Array) -> jax.Array:
    """`values[indices]` without a check: all indices are in range."""
    return jnp.asarray(values).at[indices].get(mode="promise_in_bounds")
