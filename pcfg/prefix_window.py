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
from pcfg.prefix import next_token

_TOGETHER = 4096
"""Prefixes whose predictions at all positions are in memory at one time."""


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
        num_positions = self.tokens_PxT.shape[1] + 1
        found = []
        for left in (left_for_robust, left_for_close):
            left_PxT = np.asarray(left(jnp.asarray(self.length_P), num_positions, n))[:, 1:]
            moved_PxC = np.abs(self.predictions(left_PxT) - self.whole_PxC)
            found.append(np.sum(moved_PxC, axis=1) / 2)
        return np.stack(found)

    @functools.cached_property
    def whole_PxC(self) -> np.ndarray:
        """The predictions from the whole prefixes; see `predictions`."""
        return self.predictions(np.ones(self.tokens_PxT.shape, bool))

    def predictions(self, left_PxT: np.ndarray) -> np.ndarray:
        """P(next token, or the end | the tokens that are left, a boundary of the level or the end
        comes next), `(P, V)` or, with the end, `(P, V + 1)`.

        Raises:
            UserError: as `distances`.
        """
        # Many prefixes have the same tokens left: -1 stands for a removed one, -2 for none.
        within_PxT = np.arange(self.tokens_PxT.shape[1])[None] < self.length_P[:, None]
        known_PxT = np.where(left_PxT, self.tokens_PxT, -1)
        known_PxT = np.where(within_PxT, known_PxT, -2)
        # Narrow arrays are fast ones.
        width = max(self.grammar.length_bounds()[0], np.max(self.length_P))
        known_PxT = known_PxT[:, :width]
        distinct_NxT, which_P = np.unique(known_PxT, axis=0, return_inverse=True)
        predictions = [
            self._following(distinct_NxT[first : first + _TOGETHER])
            for first in range(0, len(distinct_NxT), _TOGETHER)
        ]
        return np.concatenate(predictions)[which_P.ravel()]

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
