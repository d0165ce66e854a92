"""M_robust and M_close of the Bayes-optimal predictor: how much the best prediction depends on the
n-gram around a token (paper section 4).

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
    """Total variation in [0, 1] for every target; the published code's L1 norm is twice as much."""

    robust_N: np.ndarray
    """Between the predictions with only the target masked and with its whole window masked."""
    close_N: np.ndarray
    """Between the predictions with only the target masked and with everything outside its window
    masked too (the target stays masked)."""


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
    """How far hiding the window, or all but the window, moves the best prediction of each target.

    Exactly the stated positions are masked, all others are clean, and the length is known. Whether
    the others are known to be clean depends on what the model is told: under `unknown` each is what
    the channel shows, wrong with a small probability, as it was in all that a model was trained on;
    under `known` and `hidden` a token that is seen is the true one. A window is cut off at the ends
    of its sentence.

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
    sentence_N, target_N = (np.asarray([pair[i] for pair in targets], int) for i in (0, 1))
    if np.any((target_N < 0) | (target_N >= length_B[sentence_N])):
        raise UserError("a target position lies outside its sentence")
    nothing_BxT = np.zeros(tokens_BxT.shape, bool)
    evidence_BxTxV = channel_log_evidence(
        tokens_BxT, channel, len(grammar.terminals), selection, nothing_BxT
    )
    # What all others say about a position leaves out its own evidence, so one pass over the whole
    # sentence masks each target in turn.
    log_z_B, whole_BxTxV = leave_one_out(grammar, evidence_BxTxV, length_B, part=part)
    if not np.isfinite(log_z_B[sentence_N]).all():
        raise UserError(
            f"a sentence does not come from grammar {grammar.name}; do grammar and start level fit?"
        )
    whole_NxV = whole_BxTxV[sentence_N, target_N]
    in_window_NxT = np.asarray(in_window(jnp.asarray(target_N), tokens_BxT.shape[1], n))
    distances = []
    for masked_NxT in (in_window_NxT, ~in_window_NxT):
        masked_NxTxV = np.where(masked_NxT[..., None], 0.0, evidence_BxTxV[sentence_N])
        _, others_NxTxV = leave_one_out(grammar, masked_NxTxV, length_B[sentence_N], part=part)
        moved_NxV = np.abs(others_NxTxV[np.arange(len(target_N)), target_N] - whole_NxV)
        distances.append(np.sum(moved_NxV, axis=-1) / 2)
    return Distances(*distances)
