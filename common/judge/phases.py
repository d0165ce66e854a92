"""The three phases of a loss curve (paper section 4): a plateau, a sharp drop, a slow tail.

Phases last for factors, not for differences, of training time, so the curve is looked at over the
logarithm of the step. There it is fitted with four pieces of straight line: first descent from the
untrained model, plateau, drop, tail. They meet where least squares puts them, every stretch of the
logarithm weighing the same; no level of the loss has to be known beforehand.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from common.base.config import configuration
from common.judge.transition import NoTransition, Transition, controls, malformed

PIECES = 4
KEPT = 0.9
"""Part of the drop that a control after it must still have, and of which one before it has no more
than the rest."""


@configuration
class PhaseConfig:
    """When three phases are three phases. A detector, as `DetectorConfig` is."""

    metric: ClassVar[str] = "eval_loss"
    # Checkpoints are too far apart for the first pieces, which are short where training has begun.
    reads_all: ClassVar[bool] = True
    contrast: Annotated[float, Field(gt=1)] = 2.0
    """The drop must be so many times as steep, over the logarithm of the step, as the plateau
    before it and as the tail after it."""
    depth: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """And the loss must fall in it by at least this part of the way from the plateau's end to
    zero."""

    def detect(self, steps: Sequence[int], values: Sequence[float]) -> Transition | NoTransition:
        """The drop: its start (end of the plateau), middle (C1, the first evaluation below the mean
        of the levels at both ends), and end.

        Args:
            steps: increasing.
            values: the loss at those steps.
        """
        if problem := malformed(steps, values):
            return NoTransition(problem)
        positive = [i for i, step in enumerate(steps) if step > 0]
        if len(positive) < 3 * PIECES:
            return NoTransition(
                f"only {len(positive)} evaluations after step 0; three phases need {3 * PIECES}"
            )
        loss = np.asarray([values[i] for i in positive], np.float64)
        log_step = np.log([steps[i] for i in positive])
        weight = np.gradient(log_step)
        ends = _pieces(log_step, loss, weight, PIECES)
        slopes = [_slope(log_step[i : j + 1], loss[i : j + 1], weight[i : j + 1]) for i, j in ends]
        plateau, drop, tail = slopes[1:]
        start, end = ends[2]
        fall = 1 - loss[end] / loss[start]
        if drop >= 0 or fall < self.depth:
            return NoTransition(
                f"after its first descent the loss falls by {max(fall, 0):.0%} at most; a drop is"
                f" {self.depth:.0%}"
            )
        for name, slope in (("plateau before", plateau), ("tail after", tail)):
            if -drop < self.contrast * -slope:
                steepest = f"the steepest part ({-drop:.3g} per e-fold of steps)"
                return NoTransition(
                    f"{steepest} is less than {self.contrast:g} times as steep as the {name} it"
                    f" ({-slope:.3g})"
                )
        level = (loss[start] + loss[end]) / 2
        middle = start + int(np.argmax(loss[start : end + 1] <= level))
        first, center, last = (positive[i] for i in (start, middle, end))
        fallen = (loss[start] - np.asarray(values, np.float64)) / (loss[start] - loss[end])
        is_unlearnt, is_learnt = fallen < 1 - KEPT, fallen > KEPT
        return controls(
            steps,
            start=first,
            middle=center,
            end=last,
            chosen=center,
            is_unlearnt=is_unlearnt,
            is_learnt=is_learnt,
        )


def _pieces(x: np.ndarray, y: np.ndarray, weight: np.ndarray, count: int) -> list[tuple[int, int]]:
    """First and last index of the pieces of the best fit; neighbours share the point where they
    meet, and each has at least three points."""
    cost_NxN = _costs(x, y, weight)
    n = len(x)
    best = cost_NxN[0].copy()
    meets = np.zeros((count, n), int)
    for piece in range(1, count):
        through = best[:, None] + cost_NxN  # the earlier pieces end where this one starts
        meets[piece], best = through.argmin(0), through.min(0)
    ends, last = [], n - 1
    for piece in reversed(range(1, count)):
        first = int(meets[piece, last])
        ends.append((first, last))
        last = first
    return [(0, last), *reversed(ends)]


def _costs(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted squared error of the line through points i..j, `(N, N)`; infinite for fewer than
    three points."""
    sums = np.cumsum(
        np.stack([weight * term for term in (np.ones_like(x), x, y, x * x, x * y, y * y)]), axis=1
    )
    before = np.concatenate([np.zeros((6, 1)), sums[:, :-1]], axis=1)
    n, sx, sy, sxx, sxy, syy = sums[:, None, :] - before[:, :, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        var_x, cov, var_y = sxx - sx * sx / n, sxy - sx * sy / n, syy - sy * sy / n
        cost = np.maximum(var_y - np.where(var_x > 0, cov * cov / var_x, 0), 0)
    num_points = np.arange(len(x))[None, :] - np.arange(len(x))[:, None] + 1
    return np.where(num_points >= 3, cost, np.inf)


def _slope(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    return float(np.polyfit(x, y, 1, w=np.sqrt(weight))[0])
