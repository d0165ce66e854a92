"""close(n) and robust(n) of the Bayes-optimal next-token prediction: how much it depends on the
last n tokens of a prefix.

Tokens are removed as in common/sequence/prefix_windows.py, which probes models in the same way. Of
a removed token it is known that it is there, because the others keep their positions.
"""

import functools
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from common.base.errors import UserError
from common.sequence.prefix_windows import left_for_close, left_for_robust
from pcfg.grammar import Grammar
from pcfg.inside import parts
from pcfg.prefix import next_token

_TOGETHER = 256
"""Prefixes whose predictions at all positions are in memory at one time, a power of two."""


@dataclass(frozen=True, eq=False)
class BestOfPrefixes:
    """The best predictions at the boundaries of a level after P prefixes, T tokens at most."""

    grammar: Grammar
    tokens_PxT: np.ndarray
    """Sentences from their first terminal on; what comes after the prefix does not count."""
    length_P: np.ndarray
    """Tokens of every prefix."""
    level: int
    """See `pcfg.prefix.next_token_ceiling`."""
    with_end: bool
    """Whether the end of the sentence may follow too."""

    def distances(self, n: int) -> np.ndarray:
        """robust(n) and close(n) of every prefix in total variation, `(2, P)`.

        Raises:
            UserError: what follows a prefix is no boundary of this level in any sentence.
        """
        # With BOS in front, the last token of a prefix stands where its length says.
        position_P, num_positions = jnp.asarray(self.length_P), self.tokens_PxT.shape[1] + 1
        left_2xPxT = jnp.stack(
            [left(position_P, num_positions, n) for left in (left_for_robust, left_for_close)]
        )
        moved_2xPxC = np.abs(self.predictions(np.asarray(left_2xPxT)[:, :, 1:]) - self.whole_PxC)
        return np.sum(moved_2xPxC, axis=2) / 2

    @functools.cached_property
    def whole_PxC(self) -> np.ndarray:
        """The predictions from the whole prefixes; see `predictions`."""
        return self.predictions(np.ones((1, *self.tokens_PxT.shape), bool))[0]

    def predictions(self, left_KxPxT: np.ndarray) -> np.ndarray:
        """P(next token, or the end | the tokens that are left, a boundary of the level or the end
        comes next) for K choices of what is left, `(K, P, V)`, or `(K, P, V + 1)` with the end.

        Raises:
            UserError: as `distances`.
        """
        num_positions = self.tokens_PxT.shape[1]
        # Many prefixes have the same tokens left: -1 stands for a removed one, -2 for none.
        known_KxPxT = np.where(left_KxPxT, self.tokens_PxT, -1)
        within_PxT = np.arange(num_positions)[None] < self.length_P[:, None]
        known_KxPxT = np.where(within_PxT, known_KxPxT, -2)
        # Narrow arrays are fast ones; a sentence must fit in.
        width = max(self.grammar.length_bounds()[0], np.max(self.length_P))
        beyond = ((0, 0), (0, 0), (0, max(0, width - num_positions)))
        known_KxPxT = np.pad(known_KxPxT[:, :, :width], beyond, constant_values=-2)
        distinct_NxT, which_M = np.unique(
            known_KxPxT.reshape(-1, width), axis=0, return_inverse=True
        )
        num_answers = len(self.grammar.terminals) + (1 if self.with_end else 0)
        found_NxC = np.zeros((len(distinct_NxT), num_answers))
        for index in parts(len(distinct_NxT), _TOGETHER):
            found_NxC[index] = self._following(distinct_NxT[index])
        return found_NxC[which_M.ravel()].reshape(*left_KxPxT.shape[:2], num_answers)

    def _following(self, known_NxT: np.ndarray) -> np.ndarray:
        """The predictions after prefixes of tokens, removed tokens (-1) and none (-2)."""
        length_N = np.sum(known_NxT != -2, axis=1)
        found = next_token(self.grammar, known_NxT, length_N, seen_BxT=known_NxT >= 0)
        answers_NxC = found.answers(self.level, self.with_end)[np.arange(len(length_N)), length_N]
        total_Nx1 = np.sum(answers_NxC, axis=1, keepdims=True)
        if not np.all(total_Nx1):
            raise UserError(
                f"a prefix with a boundary of level {self.level} behind it cannot come from grammar"
                f" {self.grammar.name}; do grammar, start level and level fit?"
            )
        return answers_NxC / total_Nx1
