"""M_robust and M_close of the Bayes-optimal prediction: how much it depends on the n-gram around a
token (paper section 4).

Windows are those of common/sequence/ngram.py, which probes models in the same way.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from common.base.errors import UserError
from common.sequence.ngram import in_window
from pcfg.grammar import Grammar
from pcfg.inside import leave_one_out
from pcfg.posterior import Channel, Selection, channel_log_evidence


class Distances(NamedTuple):
    """Total variation, in [0, 1], from the prediction with only the target masked, for N targets.
    The published code's L1 norm is twice as much."""

    robust_N: np.ndarray
    """To the prediction with the whole window masked."""
    close_N: np.ndarray
    """To the prediction with the target and everything outside its window masked."""


def window_distances(
    grammar: Grammar,
    tokens_BxT: np.ndarray,
    length_B: np.ndarray,
    targets: Sequence[tuple[int, int]],
    n: int,
    channel: Channel,
    selection: Selection = "unknown",
    part: int | None = None,
) -> Distances:
    """How far the best prediction of each target moves when its window is masked, or all but its
    window.

    The stated positions are masked, all others are clean, and the length is known. `selection`
    decides whether the others are known to be clean. Under `unknown` each of them is wrong with the
    channel's small probability, as in the sentences that a model was trained on. Under `known` and
    `hidden` a visible token is the true one. A window ends where its sentence does.

    Args:
        grammar: what the sentences come from.
        tokens_BxT: clean sentences from their first terminal on.
        length_B: number of terminals of every sentence.
        targets: (sentence, position) pairs, N of them.
        n: width of the window.
        channel: what corrupted the sentences that the model was trained on.
        selection: what it was told about the positions around a target.
        part: sentences computed at one time.

    Raises:
        UserError: a target lies outside its sentence, or a sentence cannot have come from the
            grammar by way of the channel.
    """
    sentence_N = np.asarray([sentence for sentence, _ in targets], int)
    target_N = np.asarray([position for _, position in targets], int)
    if np.any((target_N < 0) | (target_N >= length_B[sentence_N])):
        raise UserError("a target position lies outside its sentence")
    none_BxT = np.zeros(tokens_BxT.shape, bool)
    num_terminals = len(grammar.terminals)
    evidence_BxTxV = channel_log_evidence(tokens_BxT, channel, num_terminals, selection, none_BxT)
    # One pass over a sentence masks each target in turn: the prediction at a position leaves out
    # the position's own evidence.
    log_z_B, whole_BxTxV = leave_one_out(grammar, evidence_BxTxV, length_B, part=part)
    if not np.isfinite(log_z_B[sentence_N]).all():
        raise UserError(
            f"a sentence does not come from grammar {grammar.name}; do grammar and start level fit?"
        )
    whole_NxV = whole_BxTxV[sentence_N, target_N]
    in_window_NxT = np.asarray(in_window(jnp.asarray(target_N), tokens_BxT.shape[1], n))

    def distance_if_masked(masked_NxT: np.ndarray) -> np.ndarray:
        masked_NxTxV = np.where(masked_NxT[..., None], 0.0, evidence_BxTxV[sentence_N])
        _, others_NxTxV = leave_one_out(grammar, masked_NxTxV, length_B[sentence_N], part=part)
        moved_NxV = np.abs(others_NxTxV[np.arange(len(target_N)), target_N] - whole_NxV)
        return np.sum(moved_NxV, axis=-1) / 2

    return Distances(distance_if_masked(in_window_NxT), distance_if_masked(~in_window_NxT))
