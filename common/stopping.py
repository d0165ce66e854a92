"""When a run ends: with its budget, or sooner, at a multiple of the step by which every lane has learnt.

Transition times are heavy-tailed, so a budget that covers a slow seed is many times what a fast one needs. The multiple leaves a teacher the time
beyond its transition in which its answers become those of a final checkpoint.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from common.config import TrainingConfig
from common.transition import Watch


class Stopping:
    """The last step of a run, as far as its evaluations up to now tell."""

    def __init__(self, config: TrainingConfig, watch: Watch, num_lanes: int, records: Iterable[Mapping[str, Any]]) -> None:
        """Begin with the evaluations of the run so far, none of a new one.

        Args:
            config: the budget, and whether the run may end before it.
            watch: when a lane counts as having learnt.
            num_lanes: how many have to.
            records: rows of metrics.jsonl; a run that goes on has ended where it would have without the interruption.
        """
        self._config = config
        self._detector = watch.detector
        self._learnt_at_L: list[int | None] = [None] * num_lanes
        for record in records:
            self.observe(record["step"], record[watch.metric])

    @property
    def watches(self) -> bool:
        """Whether evaluations matter at all."""
        return self._config.stop_after is not None

    @property
    def last_step(self) -> int:
        """Where the run ends, unless a lane that has yet to learn does so; a whole number of checkpoint intervals, so that no grid is broken."""
        learnt_at = [step for step in self._learnt_at_L if step is not None]
        if self._config.stop_after is None or len(learnt_at) < len(self._learnt_at_L):
            return self._config.steps
        grid = self._config.checkpoint_every or self._config.eval_every
        return min(math.ceil(self._config.stop_after * max(learnt_at) / grid) * grid, self._config.steps)

    def observe(self, step: int, metric_L: Sequence[float | None]) -> None:
        """Take note of an evaluation; None where the run had diverged."""
        progress_L = self._detector.progress(np.asarray(metric_L, np.float64))
        for lane, progress in enumerate(progress_L):
            if self._learnt_at_L[lane] is None and progress > self._detector.done:
                self._learnt_at_L[lane] = step
