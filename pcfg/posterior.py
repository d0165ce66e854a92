"""Bayes-optimal masked prediction: what the best possible model knows about a token, and its
accuracy and loss, which no other model can beat.

A sentence is drawn, and each position is selected independently with probability s. A selected
token becomes MASK, stays, or is replaced by a random terminal with probabilities (m, k, r), m + k +
r = 1; the loss counts selected positions only. With x_t the true token and o_t the observed one,

    position selected:
        P(o | x) = m                                          for o = MASK
        P(o | x) = k [o = x] + r / V                          for o a terminal
    nobody says what was selected:
        P(o | x) = s m                                        for o = MASK
        P(o | x) = (1 - s) [o = x] + s (k [o = x] + r / V)    for o a terminal

A model is scored at t because t is selected. Its best prediction there is P(x_t | all of o, length,
t selected). Positions are selected independently of each other and of the sentence, so that by
Bayes' rule

    P(x_t = v | o, length, t selected)
        is proportional to  P(x_t = v | o elsewhere, length) P(o_t | x_t = v, t selected)

with the second kind of evidence at all other positions and the first kind at t. One pass gives the
first factor for every t (see pcfg/inside.py). The length is part of what is known because the
end-of-sentence token and the padding show it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from common.base.errors import UserError
from pcfg.grammar import Grammar
from pcfg.inside import leave_one_out

Selection = Literal["unknown", "known", "hidden"]
"""What a model is told about the other positions.

unknown: the corrupted sentence and nothing else, as in BERT.
known: also which positions were selected.
hidden: which positions were selected, but not the tokens there; the published code's attention mask
    leaves them out.

In all cases the model sees the token at the scored position."""


@dataclass(frozen=True)
class Channel:
    """How masked prediction corrupts a sentence."""

    rate: float = 0.3
    """s: probability that a position is selected."""
    mask: float = 0.8
    """m: probability that a selected token becomes MASK."""
    random: float = 0.1
    """r: probability that it becomes a terminal drawn uniformly from all V, itself included."""

    def __post_init__(self) -> None:
        if not (0 < self.rate <= 1 and min(self.mask, self.random, self.keep) >= -1e-9):
            raise ValueError(
                f"{self}: the rate must lie in (0, 1], and mask and random must not be negative or"
                " sum to more than 1"
            )

    @property
    def keep(self) -> float:
        """k: probability that a selected token stays."""
        return 1 - self.mask - self.random

    def likelihood(self, num_terminals: int, selected: bool | None) -> np.ndarray:
        """P(observed | true) `(V + 1, V)`; the last row is MASK.

        Args:
            num_terminals: V.
            selected: whether the position is selected; None: averaged over both cases.
        """
        same, masked = np.eye(num_terminals), np.full((1, num_terminals), self.mask)
        seen = max(self.keep, 0) * same + self.random / num_terminals
        if_selected = np.concatenate([seen, masked])
        if_not = np.concatenate([same, np.zeros((1, num_terminals))])
        if selected is None:
            return self.rate * if_selected + (1 - self.rate) * if_not
        return if_selected if selected else if_not


@dataclass(frozen=True)
class Ceiling:
    """The best possible scores on a set of scored positions."""

    accuracy: float
    """Mean probability of the most probable token: the expected accuracy given what is observed."""
    accuracy_here: float
    """Share of these positions whose most probable token is the true one: an unbiased but noisier
    estimate of `accuracy`."""
    cross_entropy: float
    """Mean entropy, nats: the expected loss given what is observed."""
    cross_entropy_here: float
    """Mean of -ln P(true token), nats: an unbiased estimate of `cross_entropy`, to compare with a
    model's loss on the same positions."""
    accuracy_error: float
    """Standard error of `accuracy` as an estimate over all sentences, which are taken to be
    independent; positions of one sentence are not."""
    cross_entropy_error: float
    """Standard error of `cross_entropy`."""
    num_positions: int


def plain_log_evidence(tokens_BxT: np.ndarray, num_terminals: int) -> np.ndarray:
    """Log-likelihood `(B, T, V)` of clean tokens: 0 for the observed terminal and -inf for all
    others; 0 for all where none was observed (MASK)."""
    is_unknown_BxT = (tokens_BxT < 0) | (tokens_BxT >= num_terminals)
    same_BxTxV = tokens_BxT[..., None] == np.arange(num_terminals)[None, None]
    return np.where(same_BxTxV | is_unknown_BxT[..., None], 0.0, -np.inf)


def channel_log_evidence(
    tokens_BxT: np.ndarray,
    channel: Channel,
    num_terminals: int,
    selection: Selection = "unknown",
    selected_BxT: np.ndarray | None = None,
) -> np.ndarray:
    """ln P(observed | true token) of every position, for predicting *another* one; `(B, T, V)`.

    Args:
        tokens_BxT: the corrupted sentences from their first terminal on; every id that is no
            terminal counts as MASK.
        channel: what corrupted them.
        num_terminals: V.
        selection: what is known about which positions were selected.
        selected_BxT: which they were, unless that is unknown. The factor s or 1 - s of each
            position, the same for all tokens, is left out then.
    """
    observed_BxT = _observed(tokens_BxT, num_terminals)
    with np.errstate(divide="ignore"):
        if selection == "unknown":
            return np.log(channel.likelihood(num_terminals, selected=None))[observed_BxT]
        if selected_BxT is None:
            raise ValueError(
                f"selection = {selection!r} needs to know which positions were selected"
            )
        if_selected_BxTxV = np.log(channel.likelihood(num_terminals, selected=True))[observed_BxT]
        if selection == "hidden":
            if_selected_BxTxV = np.zeros_like(if_selected_BxTxV)
        return np.where(
            selected_BxT[..., None],
            if_selected_BxTxV,
            plain_log_evidence(tokens_BxT, num_terminals),
        )


def posterior(
    grammar: Grammar, log_evidence_BxTxV: np.ndarray, length_B: np.ndarray, part: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """log P(evidence, length) in nats `(B,)`, and the posterior marginals P(token at t | all
    evidence, length) `(B, T, V)`.

    Where evidence and length are impossible the logarithm is -inf and all marginals are zero;
    beyond the length they are zero too.
    """
    log_z_B, others_BxTxV = leave_one_out(grammar, log_evidence_BxTxV, length_B, part=part)
    joint_BxTxV = _times_evidence(others_BxTxV, log_evidence_BxTxV)
    return log_z_B, np.where(np.isfinite(log_z_B)[:, None, None], joint_BxTxV, 0)


def optimal_prediction(
    grammar: Grammar,
    tokens_BxT: np.ndarray,
    length_B: np.ndarray,
    channel: Channel,
    selection: Selection = "unknown",
    selected_BxT: np.ndarray | None = None,
    part: int | None = None,
) -> np.ndarray:
    """P(true token at t | corrupted sentence, length, t selected) for every t `(B, T, V)`, to be
    read where t is selected; zero beyond the length.

    Args:
        grammar: what the sentences come from.
        tokens_BxT: the corrupted sentences, as in `channel_log_evidence`.
        length_B: number of terminals of every sentence.
        channel: what corrupted them.
        selection: what is known about the other positions; that t itself is selected is known in
            all cases, because it is scored.
        selected_BxT: which positions were selected, unless that is unknown.
        part: sentences computed at one time.
    """
    num_terminals = len(grammar.terminals)
    evidence_BxTxV = channel_log_evidence(
        tokens_BxT, channel, num_terminals, selection, selected_BxT
    )
    _, others_BxTxV = leave_one_out(grammar, evidence_BxTxV, length_B, part=part)
    with np.errstate(divide="ignore"):
        own_BxTxV = np.log(channel.likelihood(num_terminals, selected=True))[
            _observed(tokens_BxT, num_terminals)
        ]
    return _times_evidence(others_BxTxV, own_BxTxV)


def ceiling(
    grammar: Grammar,
    true_BxT: np.ndarray,
    tokens_BxT: np.ndarray,
    selected_BxT: np.ndarray,
    length_B: np.ndarray,
    channel: Channel,
    selection: Selection = "unknown",
    only_masked: bool = False,
    part: int | None = None,
) -> Ceiling:
    """The scores of `optimal_prediction` on the selected positions of a set of sentences. No model
    has better ones in expectation.

    Args:
        grammar: what the sentences come from.
        true_BxT: the sentences.
        tokens_BxT: the same, corrupted.
        selected_BxT: which positions were selected; those beyond the length do not count.
        length_B: number of terminals of every sentence.
        channel: what corrupted them.
        selection: what the model is told about the other positions.
        only_masked: score only those selected positions that became MASK.
        part: sentences computed at one time.

    Raises:
        UserError: no position is scored, or a sentence cannot have come from the grammar by way of
            the channel.
    """
    num_terminals = len(grammar.terminals)
    scored_BxT = selected_BxT & (np.arange(tokens_BxT.shape[1])[None] < length_B[:, None])
    if only_masked:
        scored_BxT = scored_BxT & (_observed(tokens_BxT, num_terminals) == num_terminals)
    prediction_NxV = optimal_prediction(
        grammar, tokens_BxT, length_B, channel, selection, selected_BxT, part
    )[scored_BxT]
    if not len(prediction_NxV):
        raise UserError("no position is selected, so that there is nothing to score")
    if not prediction_NxV.any(axis=-1).all():
        raise UserError(
            f"a sentence cannot come from grammar {grammar.name} by this corruption; do grammar,"
            " start level and masking fit?"
        )
    return scores(prediction_NxV, true_BxT[scored_BxT], np.nonzero(scored_BxT)[0])


def scores(prediction_NxV: np.ndarray, true_N: np.ndarray, sentence_N: np.ndarray) -> Ceiling:
    """The scores of predictions at N positions.

    Args:
        prediction_NxV: distributions over the terminals.
        true_N: the true terminals.
        sentence_N: the sentence of each position.
    """
    largest_N, entropy_N = np.max(prediction_NxV, axis=1), entropy(prediction_NxV)
    with np.errstate(divide="ignore"):
        here = -float(np.mean(np.log(np.take_along_axis(prediction_NxV, true_N[:, None], axis=1))))
    return Ceiling(
        accuracy=float(np.mean(largest_N)),
        accuracy_here=float(np.mean(np.argmax(prediction_NxV, axis=1) == true_N)),
        cross_entropy=float(np.mean(entropy_N)),
        cross_entropy_here=here,
        accuracy_error=_clustered_error(largest_N, sentence_N),
        cross_entropy_error=_clustered_error(entropy_N, sentence_N),
        num_positions=len(true_N),
    )


def entropy(probabilities_xV: np.ndarray) -> np.ndarray:
    """Entropy over the last axis, nats."""
    return -np.sum(
        probabilities_xV * np.log(np.where(probabilities_xV > 0, probabilities_xV, 1)), axis=-1
    )


def _clustered_error(score_N: np.ndarray, sentence_N: np.ndarray) -> float:
    """Standard error of the mean of scores that are independent between sentences only."""
    by_sentence = np.bincount(sentence_N, score_N - np.mean(score_N))
    return float(np.sqrt(np.sum(by_sentence**2)) / len(score_N))


def _observed(tokens_BxT: np.ndarray, num_terminals: int) -> np.ndarray:
    """The row of the channel's likelihood for every token; the last one for what is no terminal."""
    return np.where((tokens_BxT < 0) | (tokens_BxT >= num_terminals), num_terminals, tokens_BxT)


def _times_evidence(others_BxTxV: np.ndarray, log_evidence_BxTxV: np.ndarray) -> np.ndarray:
    """The normalised product of two distributions: from all other positions, and from a position's
    own evidence. Zero where they exclude each other."""
    largest_BxTx1 = np.max(log_evidence_BxTxV, axis=-1, keepdims=True)
    own_BxTxV = np.exp(log_evidence_BxTxV - np.where(np.isfinite(largest_BxTx1), largest_BxTx1, 0))
    joint_BxTxV = others_BxTxV * own_BxTxV
    total_BxTx1 = np.sum(joint_BxTxV, axis=-1, keepdims=True)
    return joint_BxTxV / np.where(total_BxTx1 > 0, total_BxTx1, 1)
