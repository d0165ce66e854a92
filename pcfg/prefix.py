"""Bayes-optimal next-token prediction: the probability of each token, and of the end, after every
beginning of a sentence.

The best model that reads from left to right predicts P(token at t | tokens before t). This is a
ratio of the probabilities of two beginnings (Jelinek and Lafferty 1991; Stolcke 1995). All
derivations have one depth, so that one pass from the start down to the terminals gives all of them.
For the symbols A of a level, and for what is left of a rule whose first children are complete, let

    next[A, t]            = P(the tokens before t come first, then a node A begins)
    rest[C_1 ... C_q, t]  = P(the tokens before t come first, then the last q children of a node)

What comes later is not seen and sums to 1. Nor need all that comes before be seen: of a token that
is not, only its place is known, and the inside values sum over what it may be. A rule hands these
on from its node to its children:

    rest[C_1 ... C_q, t] += next[A, t] P(A -> C_1 ... C_q)
    rest[C_2 ... C_q, t] += sum_k rest[C_1 ... C_q, t - k] inside[C_1, t - k, k]
    next[C_1, t]         += rest[C_1 ... C_q, t]

At the level of the terminals, `next` is the probability of the tokens before t together with each
token at t. What is left after all children of the start is the end of the sentence.

A boundary of level l is the last token of a node of level l. The root's level is 0, and the last
level are the tokens themselves, each of which is a boundary. Every value is split by the highest
level of which a node ends together with this one: a last child ends with its parent and whatever
ends with that; every other child ends alone. So boundaries nest.

Values are linear with one exponent for each t, in 64 bits, as in pcfg/inside.py.

The cost grows with the width of the arrays: on one CPU core, 64 sentences of cfg3f take 4 s in
arrays for its longest sentence (729 tokens), and 2 s in arrays cut to 400, which hold nearly all of
its sentences. Compilation takes 7 s.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common.base.errors import UserError
from pcfg.grammar import Grammar
from pcfg.inside import (
    Band,
    LevelPlan,
    Plan,
    as_divisor,
    inside_bands,
    make_plan,
    part_size,
    parts,
    rule_weights,
)
from pcfg.posterior import Ceiling, scores


@dataclass(frozen=True)
class NextToken:
    """What follows every beginning of a sentence. Position t follows the first t tokens: T is one
    more than the widest array of tokens, and the end of a sentence is predicted at t = its length.
    D counts the levels from the root to the tokens, both included.

    All zeros after a beginning that the grammar does not have, and beyond the length.
    """

    token_BxTxDxV: np.ndarray
    """P(token at t, and a node of this level ends there | tokens before t). The last level gives
    the probability of the token itself."""
    end_BxT: np.ndarray
    """P(the sentence is complete | tokens before t)."""
    log_prefix_BxT: np.ndarray
    """ln P(a sentence begins with the tokens before t, as far as they are seen); -inf where all
    others are zero."""

    def answers(self, level: int, with_end: bool) -> np.ndarray:
        """P(token at t, or the end, and a node of this level ends there | tokens before t) of what
        may be answered at the boundaries of a level, `(B, T, V)`, or `(B, T, V + 1)` with the
        end: probabilities for the caller to normalise."""
        token_BxTxV = self.token_BxTxDxV[:, :, level]
        if not with_end:
            return token_BxTxV
        return np.concatenate([token_BxTxV, self.end_BxT[..., None]], axis=-1)


class Expected(NamedTuple):
    """What comes next: probabilities of N symbols, or of N suffixes of rules, after the tokens
    before each position, by the highest level (D of them) of which a node ends with it."""

    values_NxTxDxB: jax.Array
    scale_TxB: jax.Array
    """Natural logarithm of the unit of `values`, by position; -inf where all values are zero."""


def next_token(
    grammar: Grammar,
    tokens_BxT: np.ndarray,
    length_B: np.ndarray,
    part: int | None = None,
    seen_BxT: np.ndarray | None = None,
) -> NextToken:
    """The exact distribution of what follows each beginning of each sentence, also of sentences
    that are cut off.

    Args:
        grammar: what the sentences come from; its start symbols are equally probable.
        tokens_BxT: sentences from their first terminal on; ignored beyond the length.
        length_B: number of terminals of every sentence.
        part: sentences computed at one time; by default as many as keep the memory bounded.
        seen_BxT: which tokens are seen; any terminal may stand in the place of another, and what
            is known of a beginning is what is seen of it, and its length. None: all.

    Raises:
        UserError: arrays narrower than the grammar's shortest sentence, a length beyond the array,
            or a token that is seen and no terminal.
    """
    num_sentences, num_positions = tokens_BxT.shape
    num_terminals = len(grammar.terminals)
    plan = make_plan(grammar, num_positions)
    if seen_BxT is None:
        seen_BxT = np.ones(tokens_BxT.shape, bool)
    _check_tokens(grammar, tokens_BxT, length_B, seen_BxT)
    shape_BxT = num_sentences, num_positions + 1
    found = NextToken(
        np.zeros((*shape_BxT, grammar.depth + 1, num_terminals)),
        np.zeros(shape_BxT),
        np.zeros(shape_BxT),
    )
    with jax.enable_x64(True):
        for index in parts(num_sentences, part or part_size(plan)):
            tokens, length = tokens_BxT[index].astype(np.int32), length_B[index].astype(np.int32)
            of_part = _compiled(plan, tokens, length, seen_BxT[index])
            token_VxTxDxB, end_TxB, log_prefix_TxB = map(np.asarray, of_part)
            found.token_BxTxDxV[index] = token_VxTxDxB.transpose(3, 1, 2, 0)
            found.end_BxT[index] = end_TxB.T
            found.log_prefix_BxT[index] = log_prefix_TxB.T
    return found


def next_token_ceiling(
    found: NextToken,
    tokens_BxT: np.ndarray,
    length_B: np.ndarray,
    ends_BxT: np.ndarray,
    level: int,
    with_end: bool,
) -> Ceiling:
    """The best possible scores of next-token prediction at the boundaries of one level. No model
    has better ones in expectation.

    A model is scored at t because t is a boundary. Its best prediction there is P(token at t |
    tokens before t, t is a boundary); with the end among the outputs it is P(token at t, or the end
    | tokens before t, t is a boundary or the end).

    Args:
        found: what follows every beginning of these sentences, from `next_token`.
        tokens_BxT: the sentences.
        length_B: number of terminals of every sentence.
        ends_BxT: the boundaries of this level in the derivation of every sentence; those beyond the
            length do not count.
        level: 0 for the root, which ends with the sentence, up to the depth of the grammar, where
            every token is a boundary.
        with_end: whether the end of every sentence is scored too.

    Raises:
        UserError: there is no such level, nothing is scored, or a sentence with these boundaries
            cannot come from the grammar.
    """
    num_terminals, depth = found.token_BxTxDxV.shape[3], found.token_BxTxDxV.shape[2] - 1
    if not 0 <= level <= depth:
        raise UserError(
            f"the grammar has levels 0 to {depth}; there are no boundaries of level {level}"
        )
    position_T = np.arange(tokens_BxT.shape[1] + 1)[None]
    # One more position and one more token: the end.
    scored_BxT = np.pad(ends_BxT, ((0, 0), (0, 1))) & (position_T < length_B[:, None])
    true_BxT = np.pad(tokens_BxT, ((0, 0), (0, 1)))
    if with_end:
        is_end_BxT = position_T == length_B[:, None]
        scored_BxT = scored_BxT | is_end_BxT
        true_BxT = np.where(is_end_BxT, num_terminals, true_BxT)
    weight_NxV, true_N = found.answers(level, with_end)[scored_BxT], true_BxT[scored_BxT]
    if not len(true_N):
        raise UserError(f"no token is a boundary of level {level}: there is nothing to score")
    if not np.take_along_axis(weight_NxV, true_N[:, None], axis=1).all():
        raise UserError(
            f"a sentence with these boundaries of level {level} cannot come from the grammar; do"
            " grammar, start level and level fit?"
        )
    prediction_NxV = weight_NxV / np.sum(weight_NxV, axis=1, keepdims=True)
    return scores(prediction_NxV, true_N, np.nonzero(scored_BxT)[0])


def _check_tokens(
    grammar: Grammar, tokens_BxT: np.ndarray, length_B: np.ndarray, seen_BxT: np.ndarray
) -> None:
    num_positions = tokens_BxT.shape[1]
    if np.any(length_B > num_positions):
        raise UserError(
            f"a sentence of {np.max(length_B)} tokens does not fit into an array of {num_positions}"
        )
    is_terminal_BxT = (tokens_BxT >= 0) & (tokens_BxT < len(grammar.terminals))
    within_BxT = np.arange(num_positions)[None] < length_B[:, None]
    if np.any(~is_terminal_BxT & seen_BxT & within_BxT):
        raise UserError(
            f"sentences must consist of the tokens 0 to {len(grammar.terminals) - 1} of grammar"
            f" {grammar.name} alone, without BOS, EOS or MASK"
        )


def _next_token(
    plan: Plan, tokens_BxT: jax.Array, length_B: jax.Array, seen_BxT: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The arrays of `NextToken`, as `(V, T, D, B)`, `(T, B)` and `(T, B)`."""
    within_TxB = jnp.arange(plan.num_positions)[:, None] < length_B[None]
    is_token_VxTxB = tokens_BxT.T[None] == jnp.arange(plan.num_terminals)[:, None, None]
    may_be_VxTxB = (is_token_VxTxB | ~seen_BxT.T[None]) & within_TxB[None]
    bands = inside_bands(plan, may_be_VxTxB.astype(jnp.float64))
    (level, children), *lower = zip(reversed(plan.levels), reversed(bands), strict=True)
    suffixes = _suffixes(level, _start(plan, len(length_B)), children)
    end = _after_first(level.suffixes[0], ((),), suffixes[0], children)
    symbols = _first_children(level, suffixes, children)
    for level, children in lower:
        suffixes = _suffixes(level, symbols, children)
        symbols = _first_children(level, suffixes, children)
    return _distribution(symbols, end)


_compiled = jax.jit(_next_token, static_argnums=0)


def _start(plan: Plan, num_sentences: int) -> Expected:
    """One of the start symbols comes first."""
    num_symbols = 1 + max(symbol for symbol, _, _ in plan.levels[-1].rules)
    values_NxTxDxB = jnp.zeros((num_symbols, plan.num_positions + 1, 1, num_sentences))
    return _in_own_units(
        values_NxTxDxB.at[:, 0].set(1 / num_symbols),
        jnp.zeros((plan.num_positions + 1, num_sentences)),
    )


def _suffixes(level: LevelPlan, symbols: Expected, children: Band) -> list[Expected]:
    """The suffixes of 1, 2, ... children, from the symbols of their level; see `LevelPlan`."""
    longer_first: list[Expected] = []
    for q in range(len(level.suffixes), 0, -1):
        weights_YxN = jnp.asarray(rule_weights(level, q))
        whole_NxTxDxB = jnp.einsum(
            "yn,ytdb->ntdb", weights_YxN, symbols.values_NxTxDxB, precision="highest"
        )
        expected = _in_own_units(whole_NxTxDxB, symbols.scale_TxB)
        if longer_first:
            names = level.suffixes[q], level.suffixes[q - 1]
            expected = _sum(expected, _after_first(*names, longer_first[-1], children))
        longer_first.append(expected)
    return longer_first[::-1]


def _after_first(
    names: Sequence[tuple[int, ...]],
    shorter: Sequence[tuple[int, ...]],
    suffixes: Expected,
    children: Band,
) -> Expected:
    """The suffixes without their first child, which is complete: the sum over its lengths.

    Args:
        names: the children of every suffix.
        shorter: the different sequences that remain of them.
        suffixes: the suffixes themselves.
        children: the inside values of their children.
    """
    first_N = np.asarray([name[0] for name in names])
    shorter_N = np.asarray([shorter.index(name[1:]) for name in names])
    _, num_starts, num_lengths, _ = children.values_NxTxWxB.shape
    num_positions = len(suffixes.scale_TxB)
    # Positions that no sentence has are cut off at the end.
    num_reached = max(num_positions, num_starts + children.low + num_lengths - 1)
    scale_TxB = suffixes.scale_TxB[:num_starts] + children.scale_TxB
    unit_TxB = _largest_behind(scale_TxB, children.low, num_lengths, num_reached)
    before_NxTxDxB = suffixes.values_NxTxDxB[:, :num_starts]
    child_WxNxTxB = jnp.moveaxis(children.values_NxTxWxB[first_N], 2, 0)

    def add(total_NxTxDxB: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        length, child_NxTxB = step
        to_unit_TxB = jnp.exp(
            scale_TxB - jax.lax.dynamic_slice_in_dim(unit_TxB, length, num_starts, axis=0)
        )
        product_NxTxDxB = before_NxTxDxB * (child_NxTxB * to_unit_TxB[None])[:, :, None]
        so_far = jax.lax.dynamic_slice_in_dim(total_NxTxDxB, length, num_starts, axis=1)
        return jax.lax.dynamic_update_slice_in_dim(
            total_NxTxDxB, so_far + product_NxTxDxB, length, axis=1
        ), None

    _, _, num_levels, num_sentences = before_NxTxDxB.shape
    zeros = jnp.zeros((len(names), num_reached, num_levels, num_sentences))
    lengths_W = children.low + jnp.arange(num_lengths)
    total_NxTxDxB, _ = jax.lax.scan(add, zeros, (lengths_W, child_WxNxTxB))
    values_NxTxDxB = _grouped(total_NxTxDxB[:, :num_positions], shorter_N, len(shorter))
    return _in_own_units(values_NxTxDxB, unit_TxB[:num_positions])


def _largest_behind(scale_TxB: jax.Array, low: int, num_lengths: int, size: int) -> jax.Array:
    """The largest exponent among the starts of the spans that end before each of `size` positions;
    0 where there is none."""
    around = (low + num_lengths - 1, size - low - len(scale_TxB)), (0, 0)
    largest_TxB = jax.lax.reduce_window(
        scale_TxB, -jnp.inf, jax.lax.max, (num_lengths, 1), (1, 1), around
    )
    return _as_unit(largest_TxB)


def _first_children(level: LevelPlan, suffixes: Sequence[Expected], children: Band) -> Expected:
    """The symbols below a level: the first children of all suffixes. The last child of a node ends
    together with it; any other one ends alone, at its own level."""
    symbols = []
    for names, suffix in zip(level.suffixes, suffixes, strict=True):
        values_NxTxDxB = suffix.values_NxTxDxB
        num_above = values_NxTxDxB.shape[2]
        if len(names[0]) == 1:
            values_NxTxDxB = jnp.pad(values_NxTxDxB, ((0, 0), (0, 0), (0, 1), (0, 0)))
        else:
            alone_NxTx1xB = jnp.sum(values_NxTxDxB, axis=2, keepdims=True)
            values_NxTxDxB = jnp.pad(alone_NxTx1xB, ((0, 0), (0, 0), (num_above, 0), (0, 0)))
        first_N = np.asarray([name[0] for name in names])
        values_NxTxDxB = _grouped(values_NxTxDxB, first_N, len(children.values_NxTxWxB))
        symbols.append(Expected(values_NxTxDxB, suffix.scale_TxB))
    return functools.reduce(_sum, symbols)


def _grouped(values_NxTxDxB: jax.Array, group_N: np.ndarray, num_groups: int) -> jax.Array:
    """Sums over the suffixes of every group."""
    zeros = jnp.zeros((num_groups, *values_NxTxDxB.shape[1:]))
    return zeros.at[group_N].add(values_NxTxDxB)


def _sum(a: Expected, b: Expected) -> Expected:
    """The sum of two in units of the larger of both."""
    unit_TxB = _as_unit(jnp.maximum(a.scale_TxB, b.scale_TxB))
    return _in_own_units(_in_units(a, unit_TxB) + _in_units(b, unit_TxB), unit_TxB)


def _in_units(expected: Expected, unit_TxB: jax.Array) -> jax.Array:
    """The values in these units, none of which is smaller than their own."""
    return expected.values_NxTxDxB * jnp.exp(expected.scale_TxB - unit_TxB)[None, :, None]


def _in_own_units(values_NxTxDxB: jax.Array, scale_TxB: jax.Array) -> Expected:
    """Values, given in any units, in units of the largest one of every position."""
    size_TxB = jnp.max(values_NxTxDxB, axis=(0, 2))
    values_NxTxDxB = values_NxTxDxB / as_divisor(size_TxB)[None, :, None]
    return Expected(values_NxTxDxB, scale_TxB + jnp.log(size_TxB))


def _as_unit(scale_TxB: jax.Array) -> jax.Array:
    """An exponent to divide by; 0 where there are only zeros."""
    return jnp.where(jnp.isfinite(scale_TxB), scale_TxB, 0)


def _distribution(tokens: Expected, end: Expected) -> tuple[jax.Array, jax.Array, jax.Array]:
    """See `_next_token`."""
    unit_TxB = _as_unit(jnp.maximum(tokens.scale_TxB, end.scale_TxB))
    token_VxTxDxB, end_TxB = _in_units(tokens, unit_TxB), _in_units(end, unit_TxB)[0, :, 0]
    total_TxB = jnp.sum(token_VxTxDxB, axis=(0, 2)) + end_TxB
    divisor_TxB = as_divisor(total_TxB)
    # A node of a level ends wherever one of a higher level does.
    ends_VxTxDxB = jnp.cumsum(token_VxTxDxB / divisor_TxB[None, :, None], axis=2)
    return ends_VxTxDxB, end_TxB / divisor_TxB, unit_TxB + jnp.log(total_TxB)
