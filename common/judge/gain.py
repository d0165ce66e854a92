"""Half of a gain: a checkpoint half-way between what a run begins with and what it comes to, where
its metric rises without a plateau, or from an unknown floor to an unknown ceiling."""

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from common.base.config import configuration
from common.judge.transition import NoTransition, Transition, controls, malformed

BEGUN, HALF, DONE = 0.1, 0.5, 0.9
"""Parts of the gain by which a transition starts, is half done, and ends."""


@configuration
class HalfGainConfig:
    """Finds the evaluation at which the accuracy has first risen by half of what it rises in all. A
    detector, as `DetectorConfig` is. Nothing is smoothed: a trained encoder rises within a few
    evaluations, and an average of the first ones would have half of the gain in it."""

    least: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """A smaller gain has no half."""

    metric: ClassVar[str] = "accuracy"
    reads_all: ClassVar[bool] = False

    def detect(self, steps: Sequence[int], values: Sequence[float]) -> Transition | NoTransition:
        """The rise of a curve; the checkpoint to teach from is that of its half.

        Args:
            steps: increasing.
            values: the accuracy at those steps.
        """
        if problem := malformed(steps, values):
            return NoTransition(problem)
        accuracy = np.asarray(values, np.float64)
        gain = accuracy[-1] - accuracy[0]
        if gain < self.least:
            return NoTransition(
                f"the accuracy rises by {gain:.3g} from the first to the last checkpoint, less than"
                f" {self.least:g}"
            )
        gained = (accuracy - accuracy[0]) / gain
        start, middle, end = (int(np.argmax(gained >= part)) for part in (BEGUN, HALF, DONE))
        return controls(
            steps,
            start=start,
            middle=middle,
            end=end,
            chosen=middle,
            is_unlearnt=gained <= BEGUN,
            is_learnt=gained >= DONE,
        )
