"""The inside recursion, the posterior and the ceiling against enumeration of all derivations."""

import itertools
import math

import jax
import numpy as np
import pytest

from common.base.errors import UserError
from pcfg.grammar import Grammar, load
from pcfg.inside import inside, leave_one_out, make_plan
from pcfg.posterior import (
    Channel,
    Selection,
    ceiling,
    channel_log_evidence,
    entropy,
    optimal_prediction,
    plain_log_evidence,
    posterior,
)
from tests import brute_force
from tests.brute_force import AMBIGUOUS, GRAMMARS

PART = 32  # one size of batch, so that each grammar is compiled once
grammars = pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)


def widths(grammar: Grammar) -> tuple[int, int]:
    return grammar.length_bounds()[1], len(grammar.terminals)


def random_evidence(grammar: Grammar, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Soft evidence, some of it zero, and lengths, some of them impossible."""
    width, v = widths(grammar)
    rng = np.random.default_rng(seed)
    evidence_BxTxV = rng.uniform(0, 2, (count, width, v)) * (rng.random((count, width, v)) < 0.7)
    return evidence_BxTxV, rng.integers(0, width + 2, count)


def logs(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(x)


@grammars
def test_against_enumeration(grammar: Grammar) -> None:
    words = brute_force.strings(grammar)
    assert math.isclose(sum(words.values()), 1)
    evidence_BxTxV, length_B = random_evidence(grammar, 64, 0)
    log_z_B, posterior_BxTxV = posterior(grammar, logs(evidence_BxTxV), length_B, part=PART)
    assert np.isfinite(log_z_B).sum() > 10
    for b, length in enumerate(length_B):
        z, joint_TxV = brute_force.posterior(words, evidence_BxTxV[b], length)
        assert math.isclose(np.exp(log_z_B[b]), z, rel_tol=1e-12)
        np.testing.assert_allclose(
            posterior_BxTxV[b], joint_TxV / z if z else 0 * joint_TxV, rtol=1e-10, atol=1e-14
        )


@grammars
def test_leave_one_out_ignores_the_position_itself(grammar: Grammar) -> None:
    words = brute_force.strings(grammar)
    evidence_BxTxV, length_B = random_evidence(grammar, 32, 1)
    _, others_BxTxV = leave_one_out(grammar, logs(evidence_BxTxV), length_B, part=PART)
    for b, t in itertools.product(range(32), range(evidence_BxTxV.shape[1])):
        elsewhere_TxV = evidence_BxTxV[b].copy()
        elsewhere_TxV[t] = 1
        z, joint_TxV = brute_force.posterior(words, elsewhere_TxV, length_B[b])
        expected_V = joint_TxV[t] / z if z else joint_TxV[t]
        np.testing.assert_allclose(
            others_BxTxV[b, t],
            expected_V if t < length_B[b] else 0 * expected_V,
            rtol=1e-10,
            atol=1e-14,
        )


@grammars
def test_nothing_and_everything_masked(grammar: Grammar) -> None:
    words = brute_force.strings(grammar)
    width, v = widths(grammar)
    chosen = list(words)[:20]
    tokens_BxT = np.asarray([[*word, *[0] * (width - len(word))] for word in chosen])
    length_B = np.asarray([len(word) for word in chosen])
    log_z_B, posterior_BxTxV = posterior(
        grammar, plain_log_evidence(tokens_BxT, v), length_B, part=PART
    )
    np.testing.assert_allclose(np.exp(log_z_B), [words[word] for word in chosen], rtol=1e-12)
    within_BxT = np.arange(width)[None] < length_B[:, None]
    np.testing.assert_allclose(
        posterior_BxTxV, np.eye(v)[tokens_BxT] * within_BxT[..., None], atol=1e-14
    )
    log_z_B, posterior_BxTxV = posterior(
        grammar, plain_log_evidence(np.full_like(tokens_BxT, v + 3), v), length_B, part=PART
    )
    for b, length in enumerate(length_B):
        z, joint_TxV = brute_force.posterior(words, np.ones((width, v)), length)
        assert math.isclose(z, sum(p for word, p in words.items() if len(word) == length))
        assert math.isclose(np.exp(log_z_B[b]), z, rel_tol=1e-12)
        np.testing.assert_allclose(posterior_BxTxV[b], joint_TxV / z, rtol=1e-10)


def test_impossible_evidence() -> None:
    # From A alone, x y; z y is impossible as a whole, but the first token says nothing against
    # itself.
    grammar = AMBIGUOUS.entered_at(1, "A")
    tokens_BxT = np.asarray([[2, 1], [0, 1], [0, 1], [0, 1]])
    length_B = np.asarray([2, 2, 3, 0])
    evidence_BxTxV = plain_log_evidence(tokens_BxT, 3)
    log_z_B, others_BxTxV = leave_one_out(grammar, evidence_BxTxV, length_B)
    assert log_z_B.tolist() == [-np.inf, pytest.approx(math.log(0.25)), -np.inf, -np.inf]
    np.testing.assert_allclose(others_BxTxV[0], [[1, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(others_BxTxV[2:], 0)
    log_z_B, posterior_BxTxV = posterior(grammar, evidence_BxTxV, length_B)
    assert not posterior_BxTxV[[0, 2, 3]].any()
    evidence_BxTxV[:, 0] = -np.inf  # no token at all is possible
    log_z_B, posterior_BxTxV = posterior(grammar, evidence_BxTxV, length_B)
    assert np.all(log_z_B == -np.inf)
    assert not posterior_BxTxV.any()


def channel_posterior(
    grammar: Grammar,
    observed: tuple[int, ...],
    channel: Channel,
    selected: tuple[bool, ...] | None,
    target: int,
) -> np.ndarray:
    """P(true token at the target | observed, target selected) from sentences, selections and
    corruptions one by one; MASK is V."""
    v = len(grammar.terminals)
    weight_V = np.zeros(v)
    for word, prior in brute_force.strings(grammar).items():
        if len(word) == len(observed):
            for selection in itertools.product([False, True], repeat=len(word)):
                if selection[target] and selected in (None, selection):
                    weight = prior
                    for o, x, chosen in zip(observed, word, selection, strict=True):
                        if chosen:
                            weight *= channel.rate * (
                                channel.mask
                                if o == v
                                else channel.random / v
                                + (1 - channel.mask - channel.random) * (o == x)
                            )
                        else:
                            weight *= (1 - channel.rate) * (o == x)
                    weight_V[word[target]] += weight
    return weight_V / max(weight_V.sum(), 1e-300)


@pytest.mark.parametrize("selection", ["unknown", "known"])
def test_channel_against_enumeration(selection: Selection) -> None:
    channel = Channel(rate=0.4, mask=0.6, random=0.3)
    observed = np.asarray([[0, 3, 2, 0, 0], [0, 1, 1, 3, 3], [3, 3, 3, 3, 3], [2, 2, 1, 0, 1]])
    length_B = np.asarray([3, 4, 5, 3])
    selected_BxT = observed == 3
    selected_BxT[:, ::2] = True
    if selection == "known":
        observed[3] = [2, 1, 0, 0, 1]  # the second, unselected, is clean
    padded = np.pad(observed, ((0, 0), (0, AMBIGUOUS.length_bounds()[1] - 5)))
    shown = (
        np.pad(selected_BxT, ((0, 0), (0, padded.shape[1] - 5))) if selection == "known" else None
    )
    prediction_BxTxV = optimal_prediction(
        AMBIGUOUS, padded, length_B, channel, selection, shown, part=PART
    )
    for b, length in enumerate(length_B):
        for t in range(length):
            known = tuple(selected_BxT[b, :length].tolist()) if selection == "known" else None
            expected_V = channel_posterior(
                AMBIGUOUS, tuple(observed[b, :length].tolist()), channel, known, t
            )
            if selection == "unknown" or selected_BxT[b, t]:
                assert expected_V.any()
                np.testing.assert_allclose(
                    prediction_BxTxV[b, t], expected_V, rtol=1e-10, atol=1e-14
                )


def test_hidden_selection_equals_masking_all_others() -> None:
    channel = Channel()
    tokens_BxT, length_B = brute_force.sample(AMBIGUOUS, 32, 3)
    selected_BxT = np.random.default_rng(0).random(tokens_BxT.shape) < 0.5
    evidence_BxTxV = channel_log_evidence(tokens_BxT, channel, 3, "hidden", selected_BxT)
    np.testing.assert_array_equal(
        evidence_BxTxV, plain_log_evidence(np.where(selected_BxT, 6, tokens_BxT), 3)
    )
    prediction_BxTxV = optimal_prediction(
        AMBIGUOUS, tokens_BxT, length_B, channel, "hidden", selected_BxT, part=PART
    )
    _, others_BxTxV = leave_one_out(AMBIGUOUS, evidence_BxTxV, length_B, part=PART)
    own_BxTxV = 0.1 * np.eye(3)[tokens_BxT] + 0.1 / 3
    expected_BxTxV = (
        others_BxTxV
        * own_BxTxV
        / np.maximum(np.sum(others_BxTxV * own_BxTxV, axis=-1, keepdims=True), 1e-300)
    )
    np.testing.assert_allclose(prediction_BxTxV, expected_BxTxV, rtol=1e-12)


def test_channel_likelihood_is_a_distribution() -> None:
    for selected in (None, True, False):
        np.testing.assert_allclose(Channel(0.2, 0.5, 0.4).likelihood(5, selected).sum(axis=0), 1)
    with pytest.raises(ValueError, match="sum to more than 1"):
        Channel(mask=0.8, random=0.3)


def corrupted(
    grammar: Grammar, channel: Channel, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    tokens_BxT, length_B = brute_force.sample(grammar, count, seed)
    rng, v = np.random.default_rng(seed), len(grammar.terminals)
    selected_BxT = rng.random(tokens_BxT.shape) < channel.rate
    draw_BxT, random_BxT = rng.random(tokens_BxT.shape), rng.integers(0, v, tokens_BxT.shape)
    changed_BxT = np.where(
        draw_BxT < channel.mask,
        v + 3,
        np.where(draw_BxT < channel.mask + channel.random, random_BxT, tokens_BxT),
    )
    return tokens_BxT, np.where(selected_BxT, changed_BxT, tokens_BxT), selected_BxT, length_B


def test_ceiling() -> None:
    channel = Channel()
    data = corrupted(AMBIGUOUS, channel, 4096, 0)
    true_BxT, tokens_BxT, selected_BxT, length_B = data
    found = ceiling(AMBIGUOUS, *data, channel, part=PART)
    is_scored_BxT = selected_BxT & (np.arange(tokens_BxT.shape[1]) < length_B[:, None])
    prediction_NxV = optimal_prediction(AMBIGUOUS, tokens_BxT, length_B, channel, part=PART)[
        is_scored_BxT
    ]
    assert found.num_positions == len(prediction_NxV)
    np.testing.assert_allclose(
        [found.accuracy, found.cross_entropy],
        [prediction_NxV.max(axis=1).mean(), entropy(prediction_NxV).mean()],
    )
    # The standard errors against the spread of the ceilings of eighths of the sentences.
    slices = [slice(i, None, 8) for i in range(8)]
    eighths = [
        ceiling(
            AMBIGUOUS, true_BxT[i], tokens_BxT[i], selected_BxT[i], length_B[i], channel, part=PART
        )
        for i in slices
    ]
    spread = np.std(
        [[part.accuracy, part.cross_entropy] for part in eighths], axis=0, ddof=1
    ) / math.sqrt(8)
    assert np.all(
        np.abs(np.log([found.accuracy_error, found.cross_entropy_error] / spread)) < math.log(2)
    )
    # Both kinds of score estimate the same number; their difference has mean zero and these
    # standard deviations.
    assert abs(found.accuracy - found.accuracy_here) < 4 * 0.5 / math.sqrt(found.num_positions)
    assert abs(found.cross_entropy - found.cross_entropy_here) < 4 / math.sqrt(found.num_positions)
    # To know more is never worse, and MASK only is harder than all selected positions.
    known, masked = (
        ceiling(AMBIGUOUS, *data, channel, "known", part=PART),
        ceiling(AMBIGUOUS, *data, channel, only_masked=True, part=PART),
    )
    assert known.cross_entropy < found.cross_entropy < masked.cross_entropy
    assert masked.num_positions == np.sum((tokens_BxT == 6) & is_scored_BxT)


def test_ceiling_refuses_what_cannot_be() -> None:
    channel = Channel(mask=1.0, random=0.0)
    nothing = np.zeros((1, 8), bool)
    selected = nothing.copy()
    selected[0, 1] = True
    with pytest.raises(UserError, match="nothing to score"):
        ceiling(
            AMBIGUOUS,
            np.zeros((1, 8), int),
            np.zeros((1, 8), int),
            nothing,
            np.asarray([3]),
            channel,
            part=PART,
        )
    with pytest.raises(UserError, match="cannot come from grammar"):
        ceiling(
            AMBIGUOUS,
            np.full((1, 8), 2),
            np.full((1, 8), 2),
            selected,
            np.asarray([3]),
            channel,
            part=PART,
        )
    with pytest.raises(UserError, match="shortest sentence"):
        make_plan(load("cfg3b"), 100)
    with pytest.raises(UserError, match="has 3 terminals"):
        leave_one_out(AMBIGUOUS, np.zeros((1, 8, 2)), np.asarray([3]))


def log_space_z(grammar: Grammar, log_evidence_TxV: np.ndarray, length: int) -> float:
    """log P(evidence, length) from tables of all (start, end), in logarithms throughout."""
    size = length + 1
    tables = {terminal: np.full((size, size), -np.inf) for terminal in grammar.terminals}
    for i, terminal in enumerate(grammar.terminals):
        tables[terminal][np.arange(length), np.arange(length) + 1] = log_evidence_TxV[:length, i]

    def chain(names: tuple[str, ...]) -> np.ndarray:
        if len(names) == 1:
            return tables[names[0]]
        rest, total = chain(names[1:]), np.full((size, size), -np.inf)
        low, high = (
            grammar.entered_at(symbol=names[0]).length_bounds()
            if names[0] in grammar.rules
            else (1, 1)
        )
        for k in range(low, min(high, length) + 1):
            total[: size - k] = np.logaddexp(
                total[: size - k], np.diagonal(tables[names[0]], k)[:, None] + rest[k:]
            )
        return total

    for symbols in reversed(grammar.levels[:-1]):
        for symbol in symbols:
            tables[symbol] = np.logaddexp.reduce(
                [
                    math.log(rule.probability) + chain(rule.children)
                    for rule in grammar.rules[symbol]
                ]
            )
    return float(
        np.logaddexp.reduce([tables[symbol][0, length] for symbol in grammar.levels[0]])
    ) - math.log(len(grammar.levels[0]))


def test_cfg3b_logarithms_and_32_bits() -> None:
    grammar, channel = load("cfg3b").entered_at(3), Channel()
    _, tokens_BxT, _, length_B = corrupted(grammar, channel, 8, 0)
    evidence_BxTxV = channel_log_evidence(tokens_BxT, channel, 3)
    log_z_B, others_BxTxV = leave_one_out(grammar, evidence_BxTxV, length_B)
    np.testing.assert_allclose(
        log_z_B,
        [
            log_space_z(grammar, evidence_TxV, n)
            for evidence_TxV, n in zip(evidence_BxTxV, length_B, strict=True)
        ],
    )
    assert others_BxTxV.dtype == np.float64
    forward = jax.jit(
        inside, static_argnums=0
    )  # also in the precision of its evidence, and without a gradient
    plan, evidence_VxTxB = (
        make_plan(grammar, tokens_BxT.shape[1]),
        np.exp(evidence_BxTxV).transpose(2, 1, 0).astype(np.float32),
    )
    values_B, scale_B = forward(plan, evidence_VxTxB, length_B.astype(np.int32))
    assert values_B.dtype == np.float32
    np.testing.assert_allclose(np.log(values_B) + scale_B, log_z_B, rtol=1e-5)


def test_batching_does_not_matter() -> None:
    evidence_BxTxV, length_B = random_evidence(AMBIGUOUS, 50, 5)
    in_parts = leave_one_out(AMBIGUOUS, logs(evidence_BxTxV), length_B, part=PART)
    whole = leave_one_out(AMBIGUOUS, logs(evidence_BxTxV), length_B)
    assert len(whole[0]) == len(in_parts[0]) == 50
    one = leave_one_out(AMBIGUOUS, logs(evidence_BxTxV[7:8]), length_B[7:8], part=PART)
    for a, b, c in zip(whole, in_parts, one, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
        np.testing.assert_allclose(a[7:8], c, rtol=1e-12)


def test_width_of_the_arrays_does_not_matter() -> None:
    evidence_BxTxV, length_B = random_evidence(AMBIGUOUS, 32, 6)
    log_z_B, others_BxTxV = leave_one_out(AMBIGUOUS, logs(evidence_BxTxV), length_B, part=PART)
    wider_BxTxV = np.pad(evidence_BxTxV, ((0, 0), (0, 3), (0, 0)), constant_values=0.5)
    log_z_wide_B, others_wide_BxTxV = leave_one_out(AMBIGUOUS, logs(wider_BxTxV), length_B)
    np.testing.assert_allclose(log_z_wide_B, log_z_B, rtol=1e-12)
    np.testing.assert_allclose(others_wide_BxTxV[:, :-3], others_BxTxV, rtol=1e-12)
    assert not others_wide_BxTxV[:, -3:].any()
    short_B = length_B <= 4
    length_B = np.where(short_B, length_B, 4)
    log_z_narrow_B, others_narrow_BxTxV = leave_one_out(
        AMBIGUOUS, logs(evidence_BxTxV[:, :4]), length_B
    )
    np.testing.assert_allclose(log_z_narrow_B[short_B], log_z_B[short_B], rtol=1e-12)
    np.testing.assert_allclose(others_narrow_BxTxV[short_B], others_BxTxV[short_B, :4], rtol=1e-12)


def test_full_grammar() -> None:
    """Evidence at t enters P(evidence) linearly: unmasking t multiplies it by what the others say
    about the token there."""
    grammar, channel = load("cfg3b"), Channel()
    true_BxT, tokens_BxT, _, length_B = corrupted(grammar, channel, 1, 0)
    evidence_BxTxV = np.repeat(channel_log_evidence(tokens_BxT, channel, 3), 2, axis=0)
    t = 127  # one of the few masked tokens of this sentence that its other tokens leave open
    evidence_BxTxV[1, t] = np.where(np.arange(3) == true_BxT[0, t], evidence_BxTxV[0, t], -np.inf)
    log_z_B, others_BxTxV = leave_one_out(grammar, evidence_BxTxV, np.repeat(length_B, 2))
    assert -700 < log_z_B[0] < -100
    known = others_BxTxV[0, t, true_BxT[0, t]]
    assert tokens_BxT[0, t] == 6
    assert 0.1 < known < 0.9
    assert math.isclose(log_z_B[1] - log_z_B[0], math.log(known), rel_tol=1e-9)
    np.testing.assert_allclose(others_BxTxV[0, t], others_BxTxV[1, t], rtol=1e-9)
    assert math.isclose(
        log_z_B[0], log_space_z(grammar, evidence_BxTxV[0], length_B[0]), rel_tol=1e-12
    )
