"""The three phases of a loss curve (paper section 4): a plateau, a sharp drop, a slow tail.

Each phase lasts several times as long as the one before it, so the curve is taken over the
logarithm of the step. Four pieces of straight line are fitted to it: the first descent from the
untrained model, the plateau, the drop, the tail. Least squares, with equal weight for equal
stretches of the logarithm, decides where they meet. No level of the loss has to be known
beforehand.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from common.base.config import configuration
from common.judge.transition import NoTransition, Transition, controls, malformed

PIECES = 4
KEPT = 0.9
"""A checkpoint after the drop can be a control if its loss has fallen by more than this part of the
drop; one before it, if by less than the remaining part."""


@configuration
class PhaseConfig:
    """The thresholds for a curve to have three phases. A detector, as `DetectorConfig` is."""

    metric: ClassVar[str] = "eval_loss"
    # Checkpoints are too far apart for the first pieces, which are short: they lie early.
    reads_all: ClassVar[bool] = True
    contrast: Annotated[float, Field(gt=1)] = 2.0
    """How many times as steep the drop must be, over the logarithm of the step, as the plateau
    before it and as the tail after it."""
    depth: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The least part of its value at the plateau's end that the loss must lose in the drop."""

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
        ends, slopes = _fit(log_step, loss)
        start, end = ends[2]
        if refusal := self._refusal(1 - loss[end] / loss[start], slopes):
            return NoTransition(refusal)
        level = (loss[start] + loss[end]) / 2
        middle = start + int(np.argmax(loss[start : end + 1] <= level))
        fallen = (loss[start] - np.asarray(values, np.float64)) / (loss[start] - loss[end])
        return controls(
            steps,
            start=positive[start],
            middle=positive[middle],
            end=positive[end],
            chosen=positive[middle],
            is_unlearnt=fallen < 1 - KEPT,
            is_learnt=fallen > KEPT,
        )

    def _refusal(self, fall: float, slopes: Sequence[float]) -> str | None:
        """Why four pieces are not three phases; None if they are.

        Args:
            fall: part of the loss that is lost in the third piece.
            slopes: of the pieces, over the logarithm of the step.
        """
        _, plateau, drop, tail = slopes
        if drop >= 0 or fall < self.depth:
            return (
                f"after its first descent the loss falls by {max(fall, 0):.0%} at most; a drop is"
                f" {self.depth:.0%}"
            )
        for name, slope in (("plateau before", plateau), ("tail after", tail)):
            if -drop < self.contrast * -slope:
                steepest = f"the steepest part ({-drop:.3g} per e-fold of steps)"
                return (
                    f"{steepest} is less than {self.contrast:g} times as steep as the {name} it"
                    f" ({-slope:.3g})"
                )
        return None


def _fit(log_step: np.ndarray, loss: np.ndarray) -> tuple[list[tuple[int, int]], list[float]]:
    """First and last index, and slope, of each piece."""
    weight = np.gradient(log_step)
    ends = _pieces(log_step, loss, weight, PIECES)
    slopes = []
    for first, last in ends:
        own = slice(first, last + 1)
        slopes.append(_slope(log_step[own], loss[own], weight[own]))
    return ends, slopes


def _pieces(x: np.ndarray, y: np.ndarray, weight: np.ndarray, count: int) -> list[tuple[int, int]]:
    """First and last index of each piece of the best fit. Neighbours share the point where they
    meet; each piece has at least three points."""
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
