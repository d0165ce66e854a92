"""The inside recursion of a layered grammar. Its gradient gives what all other positions say about
a token.

The inside value of a span and a symbol is the probability that the symbol expands to a string of
that length, times the likelihood of what was observed there. All derivations have one depth, so
level l + 1 gives level l, and a symbol's spans have bounded lengths: a level is a band of starts x
lengths rather than a table of all pairs of positions. A rule of q children is a chain of products
of a child and a suffix of q - 1 children:

    suffix[i, n] = sum_k child[i, k] * suffix'[i + k, n - k]

Values are linear with one exponent for each start: the true value is `values * exp(scale)`. So
products stay products, zeros stay zeros, and the gradient exists where evidence is zero; a
recursion on logarithms would lose it. The exponents are a choice of units and take no part in
differentiation. What 64 bits must hold is the range within one start, from its most probable span
to the least probable one that matters. On the full cfg3b that is more than exp(87), the range of 32
bits, and far less than exp(708), the range of 64 bits. So the recursion is computed in 64 bits,
also on a GPU.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from common.base.errors import UserError
from common.base.mesh import OLDER_EMITTERS, compiler_options
from pcfg.grammar import Grammar

PART_BYTES = 2**22
"""Bytes of the widest band of one part of a batch: parts that fit a processor's cache are the
fastest."""


IndexedRule = tuple[int, tuple[int, ...], float]
"""Symbol (index into its level), children (indices into the level below), probability."""


class Band(NamedTuple):
    """Inside values of N symbols (or suffixes of rules) for T starts and W consecutive lengths, the
    first of which is `low`."""

    values_NxTxWxB: jax.Array
    scale_TxB: jax.Array
    """Natural logarithm of the unit of `values`, by start."""
    low: int


@dataclass(frozen=True)
class LevelPlan:
    """How a level is computed from the one below. Hashable: a constant of the compiled program."""

    num_starts: int
    """Starts 0 ... num_starts - 1 of the level's symbols can occur in a sentence."""
    suffixes: tuple[tuple[tuple[int, ...], ...], ...]
    """suffixes[q - 1]: the different sequences in which some rule's last q children come, as
    indices into the level below."""
    rules: tuple[IndexedRule, ...]
    low: int
    """Shortest span of a symbol of this level, in tokens."""
    high: int
    """Longest span."""


@dataclass(frozen=True)
class Plan:
    """The recursion of one grammar on arrays of one width, from the lowest non-terminals up to the
    start."""

    num_positions: int
    num_terminals: int
    levels: tuple[LevelPlan, ...]


def make_plan(grammar: Grammar, num_positions: int) -> Plan:
    """The recursion of a grammar for sentences of at most `num_positions` terminals.

    Raises:
        UserError: no sentence is that short.
    """
    shortest = grammar.length_bounds()[0]
    if num_positions < shortest:
        raise UserError(
            f"the shortest sentence of {grammar.name} has {shortest} tokens, but the arrays are"
            f" only {num_positions} wide"
        )
    bounds = [grammar.entered_at(level).length_bounds() for level in range(grammar.depth)] + [
        (1, 1)
    ]
    levels, num_starts = [], 1
    for level in range(grammar.depth):
        rules = _rules_of(grammar, level)
        suffixes = _suffixes_of(rules)
        levels.append(LevelPlan(num_starts, suffixes, rules, *bounds[level]))
        low, high = bounds[level + 1]
        most_children = len(suffixes)
        num_starts = max(1, min(num_starts + (most_children - 1) * high, num_positions - low + 1))
    return Plan(num_positions, len(grammar.terminals), tuple(reversed(levels)))


def _rules_of(grammar: Grammar, level: int) -> tuple[IndexedRule, ...]:
    """The rules of a level, with indices for names."""
    index_below = {symbol: i for i, symbol in enumerate(grammar.levels[level + 1])}
    rules = []
    for i, symbol in enumerate(grammar.levels[level]):
        for rule in grammar.rules[symbol]:
            children = tuple(index_below[child] for child in rule.children)
            rules.append((i, children, rule.probability))
    return tuple(rules)


def _suffixes_of(rules: Sequence[IndexedRule]) -> tuple[tuple[tuple[int, ...], ...], ...]:
    """See `LevelPlan.suffixes`."""
    sequences = [children for _, children, _ in rules]
    suffixes = []
    for q in range(1, max(map(len, sequences)) + 1):
        last = {children[-q:] for children in sequences if len(children) >= q}
        suffixes.append(tuple(sorted(last)))
    return tuple(suffixes)


def inside(
    plan: Plan, evidence_VxTxB: jax.Array, length_B: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """P(evidence, length) as `values_B * exp(scale_B)`; differentiable in the linear evidence, of
    which any dtype will do.

    Start symbols are equally probable. A length that the grammar does not have gives zero.
    """
    below = inside_bands(plan, evidence_VxTxB)[-1]
    band = _parents(plan.levels[-1], below, plan.num_positions, keep_units=True)
    top_WxB = jnp.mean(band.values_NxTxWxB[:, 0], axis=0)
    # A comparison instead of an index: a length outside the band must give zero, not the nearest
    # entry.
    is_length_WxB = band.low + jnp.arange(len(top_WxB))[:, None] == length_B[None]
    return jnp.sum(jnp.where(is_length_WxB, top_WxB, 0), axis=0), band.scale_TxB[0]


def inside_bands(plan: Plan, evidence_VxTxB: jax.Array) -> list[Band]:
    """The inside values of all levels below the start, from the terminals up."""
    size_TxB = as_divisor(jnp.max(evidence_VxTxB, axis=0))
    bands = [Band((evidence_VxTxB / size_TxB[None])[:, :, None], jnp.log(size_TxB), 1)]
    for level in plan.levels[:-1]:
        bands.append(_parents(level, bands[-1], plan.num_positions, keep_units=False))
    return bands


def log_z_and_others(
    plan: Plan, evidence_BxTxV: jax.Array, length_B: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """log P(evidence, length) `(B,)`, and P(token at t | evidence elsewhere, length) `(B, T, V)`.

    P(evidence, length) is linear in the evidence of any one position, so its derivative there is
    the probability of everything else together with each token: the evidence of position t itself
    drops out. All zeros beyond the length, and where everything else is impossible.
    """

    def total(evidence_VxTxB: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        values_B, scale_B = inside(plan, evidence_VxTxB, length_B)
        return jnp.sum(values_B), (values_B, scale_B)

    # The batch comes last inside: bands are narrow, and the innermost axis is the one that a
    # processor computes in one instruction.
    others_VxTxB, (values_B, scale_B) = jax.grad(total, has_aux=True)(
        evidence_BxTxV.transpose(2, 1, 0)
    )
    others_BxTxV = others_VxTxB.transpose(2, 1, 0)
    return jnp.log(values_B) + scale_B, normalised(others_BxTxV)


def leave_one_out(
    grammar: Grammar, log_evidence_BxTxV: np.ndarray, length_B: np.ndarray, part: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """log P(evidence, length) in nats, and P(token at t | evidence elsewhere, length), by parts of
    a batch.

    Args:
        grammar: what the sentences come from; its start symbols are equally probable.
        log_evidence_BxTxV: log-likelihood of what was observed at t, if the token there is v; -inf
            excludes it. Beyond the length it is ignored.
        length_B: number of terminals of every sentence.
        part: sentences computed at one time; by default as many as keep the memory bounded.

    Returns:
        `(B,)`, -inf where evidence and length are impossible; and `(B, T, V)`, which sums to 1 over
        V, or is all zero where no such distribution exists: beyond the length, and where evidence
        elsewhere is impossible on its own.

    Raises:
        UserError: arrays narrower than the shortest sentence, or evidence of another number of
            terminals.
    """
    num_sentences, num_positions, num_terminals = log_evidence_BxTxV.shape
    if num_terminals != len(grammar.terminals):
        raise UserError(
            f"evidence for {num_terminals} tokens, but grammar {grammar.name} has"
            f" {len(grammar.terminals)} terminals"
        )
    plan = make_plan(grammar, num_positions)
    log_z_B, others_BxTxV = np.zeros(num_sentences), np.zeros(log_evidence_BxTxV.shape)
    with jax.enable_x64(True):
        for index in parts(num_sentences, part or part_size(plan)):
            evidence = np.exp(log_evidence_BxTxV[index].astype(np.float64))
            log_z, others = _compiled()(plan, evidence, length_B[index].astype(np.int32))
            log_z_B[index], others_BxTxV[index] = np.asarray(log_z), np.asarray(others)
    return log_z_B, others_BxTxV


def parts(num_sentences: int, most: int) -> Iterator[np.ndarray]:
    """The sentences of every part of a batch, by index. All parts are equally large, for one
    compilation: the last one is filled up with its last sentence."""
    # A power of two, so that few programs serve all sizes of batch.
    size = min(most, 2 ** (max(num_sentences, 1) - 1).bit_length())
    for start in range(0, num_sentences, size):
        yield np.minimum(np.arange(start, start + size), num_sentences - 1)


def part_size(plan: Plan) -> int:
    """Sentences whose widest level takes `PART_BYTES`."""
    widths = []
    for level in plan.levels:
        most_suffixes = max(map(len, level.suffixes))
        widths.append(most_suffixes * level.num_starts * level.high)
    widest = max(widths)
    return max(1, min(256, PART_BYTES // (8 * widest)))


def normalised(weights_xV: jax.Array) -> jax.Array:
    """Weights as distributions over the last axis; all-zero weights stay zero."""
    # By the largest weight first: the sum of weights near the end of the range of floating point
    # would overflow or lose digits.
    weights_xV = weights_xV / as_divisor(jnp.max(weights_xV, axis=-1, keepdims=True))
    return weights_xV / as_divisor(jnp.sum(weights_xV, axis=-1, keepdims=True))


@functools.cache
def _compiled() -> Callable[..., tuple[jax.Array, jax.Array]]:
    """`log_z_and_others` as a program for each plan."""
    options = compiler_options(OLDER_EMITTERS)
    return jax.jit(log_z_and_others, static_argnums=0, compiler_options=options)


def _parents(level: LevelPlan, children: Band, num_positions: int, keep_units: bool) -> Band:
    """The band of a level's symbols from that of the level below; with `keep_units` in the units
    of the children's (the start needs no others)."""
    bands = _suffix_bands(level, children, num_positions)
    used = sorted({len(names) for _, names, _ in level.rules})
    scales = [_rows(bands[q - 1].scale_TxB, np.arange(level.num_starts)) for q in used]
    scale_TxB = functools.reduce(jnp.maximum, scales)
    values = 0
    for q, own_scale_TxB in zip(used, scales, strict=True):
        suffix = bands[q - 1]
        whole_NxTxWxB = (
            _padded(suffix.values_NxTxWxB, level.num_starts)
            * jnp.exp(own_scale_TxB - scale_TxB)[None, :, None]
        )
        weights = jnp.asarray(rule_weights(level, q), whole_NxTxWxB.dtype)
        parents_YxTxWxB = jnp.einsum("yn,ntwb->ytwb", weights, whole_NxTxWxB, precision="highest")
        values = values + _placed(parents_YxTxWxB, suffix.low, level)
    band = Band(jnp.asarray(values), scale_TxB, level.low)
    return band if keep_units else _with_own_units(band)


def _suffix_bands(level: LevelPlan, children: Band, num_positions: int) -> list[Band]:
    """The bands of the suffixes of 1, 2, ... children; those of a rule's length are whole rules."""
    last_N = jnp.asarray([names[0] for names in level.suffixes[0]])
    bands = [Band(children.values_NxTxWxB[last_N], children.scale_TxB, children.low)]
    high = children.low + children.values_NxTxWxB.shape[2] - 1
    most = len(level.suffixes)
    for q in range(2, most + 1):
        latest_start = level.num_starts + (most - q) * high
        num_starts = max(1, min(latest_start, num_positions - q * children.low + 1))
        index_of = {names: i for i, names in enumerate(level.suffixes[q - 2])}
        first_N = jnp.asarray([names[0] for names in level.suffixes[q - 1]])
        rest_N = jnp.asarray([index_of[names[1:]] for names in level.suffixes[q - 1]])
        bands.append(_chain(children, first_N, bands[-1], rest_N, num_starts))
    return bands


def rule_weights(level: LevelPlan, q: int) -> np.ndarray:
    """Probability that a symbol becomes a suffix of q children, `(Y, N)`: that of its rule, zero
    without one."""
    num_symbols = 1 + max(symbol for symbol, _, _ in level.rules)
    weights_YxN = np.zeros((num_symbols, len(level.suffixes[q - 1])))
    for symbol, names, probability in level.rules:
        if len(names) == q:
            weights_YxN[symbol, level.suffixes[q - 1].index(names)] += probability
    return weights_YxN


def _placed(values_YxTxWxB: jax.Array, low: int, level: LevelPlan) -> jax.Array:
    """Values whose shortest length is `low`, as values for the lengths of a level.

    A suffix band is as wide as its shortest and longest symbols allow. The lengths of the level's
    own rules may end earlier: what is cut off is zero.
    """
    num_lengths = values_YxTxWxB.shape[2]
    before = low - level.low
    after = level.high - (low + num_lengths - 1)
    cut = values_YxTxWxB[:, :, max(0, -before) : num_lengths - max(0, -after)]
    return jnp.pad(cut, ((0, 0), (0, 0), (max(0, before), max(0, after)), (0, 0)))


def _chain(
    children: Band, first_N: jax.Array, rest: Band, rest_N: jax.Array, num_starts: int
) -> Band:
    """The band of N suffixes, each a child `first_N` and a shorter suffix `rest_N`: the sum over
    the lengths of the child."""
    width = children.values_NxTxWxB.shape[2]
    scale_WxTxB = _rows(
        rest.scale_TxB, children.low + np.add.outer(np.arange(width), np.arange(num_starts))
    )
    unit_TxB = jnp.max(scale_WxTxB, axis=0)
    first_NxTxWxB = _padded(children.values_NxTxWxB[first_N], num_starts)
    rest_NxTxWxB = _padded(rest.values_NxTxWxB[rest_N], num_starts + children.low + width)
    child_WxNxTxB = (
        jnp.moveaxis(first_NxTxWxB, 2, 0) * jnp.exp(scale_WxTxB - unit_TxB[None])[:, None]
    )
    rest_width = rest_NxTxWxB.shape[2]

    # A loop, not a sum written out: its compilation takes seconds instead of a minute. Slices are
    # taken again in the backward pass, not kept.
    @jax.checkpoint
    def add(total_NxTxWxB: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        k, child_NxTxB = step
        product = child_NxTxB[:, :, None] * jax.lax.dynamic_slice_in_dim(
            rest_NxTxWxB, children.low + k, num_starts, axis=1
        )
        so_far = jax.lax.dynamic_slice_in_dim(total_NxTxWxB, k, rest_width, axis=2)
        return jax.lax.dynamic_update_slice_in_dim(total_NxTxWxB, so_far + product, k, axis=2), None

    zeros = jnp.zeros(
        (len(first_N), num_starts, width + rest_width - 1, first_NxTxWxB.shape[-1]),
        first_NxTxWxB.dtype,
    )
    total, _ = jax.lax.scan(add, zeros, (jnp.arange(width), child_WxNxTxB))
    return Band(
        total, _rows(children.scale_TxB, np.arange(num_starts)) + unit_TxB, children.low + rest.low
    )


def _with_own_units(band: Band) -> Band:
    """The same band in units of the largest value of every start."""
    size_TxB = as_divisor(jax.lax.stop_gradient(jnp.max(band.values_NxTxWxB, axis=(0, 2))))
    return band._replace(
        values_NxTxWxB=band.values_NxTxWxB / size_TxB[None, :, None],
        scale_TxB=band.scale_TxB + jnp.log(size_TxB),
    )


def as_divisor(size: jax.Array) -> jax.Array:
    """A size as a constant divisor; 1 in place of 0, so that zeros stay zeros and units finite."""
    size = jax.lax.stop_gradient(size)
    return jnp.where(size > 0, size, 1)


def _rows(scale_TxB: jax.Array, starts: np.ndarray) -> jax.Array:
    """Exponents of these starts. Starts beyond the end hold only zeros; they take the last
    exponent, which does not raise the maximum."""
    return scale_TxB[np.minimum(starts, len(scale_TxB) - 1)]


def _padded(values_NxTxWxB: jax.Array, num_starts: int) -> jax.Array:
    """Values of exactly `num_starts` starts; zero for those that no sentence has."""
    missing = num_starts - values_NxTxWxB.shape[1]
    return jnp.pad(values_NxTxWxB, ((0, 0), (0, max(0, missing)), (0, 0), (0, 0)))[:, :num_starts]
