"""Whether a loss still falls."""

from collections.abc import Sequence

import numpy as np


def recent_fall(
    steps: Sequence[int], losses: Sequence[float] | Sequence[Sequence[float]]
) -> np.ndarray:
    """By how much the mean loss of the last quarter of a run lies below that of the quarter before
    it. Means, because the difference of two evaluations would be small by chance now and then.

    Args:
        steps: of the evaluations, increasing, to the run's end.
        losses: at those steps `(E,)`, or of several lanes `(E, L)`.

    Returns:
        In the loss's unit, one number, or one a lane `(L,)`; NaN where a quarter has no
        evaluation.
    """
    part_E = np.asarray(steps) / steps[-1]
    loss_Ex = np.asarray(losses, np.float64)
    before, last = loss_Ex[(part_E > 0.5) & (part_E <= 0.75)], loss_Ex[part_E > 0.75]
    if len(before) == 0 or len(last) == 0:
        return np.full(loss_Ex.shape[1:], np.nan)
    return before.mean(0) - last.mean(0)
