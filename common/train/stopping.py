"""When a run ends: with its budget, or sooner, at a multiple of the step by which every lane has
learnt.

Transition times are heavy-tailed, so a budget that covers a slow seed is many times what a fast one
needs. The multiple leaves a teacher the time beyond its transition in which its answers become
those of a final checkpoint. A sweep over learning rates asks for the rate whose median seed is the
soonest, so there the median seed of one rate is enough.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from common.base.config import TrainingConfig
from common.judge.transition import SUSTAINED, Watch


class Stopping:
    """The last step of a run, as far as its evaluations up to now tell."""

    def __init__(
        self,
        config: TrainingConfig,
        watch: Watch,
        rates_L: Sequence[float],
        records: Iterable[Mapping[str, Any]],
    ) -> None:
        """Begin with the evaluations of the run so far, none of a new one.

        Args:
            config: the budget, and whether the run may end before it.
            watch: when a lane counts as having learnt.
            rates_L: learning rate of every lane; of several the best one counts.
            records: rows of metrics.jsonl; a run that goes on has ended where it would have without
                the interruption.
        """
        self._config = config
        self._detector = watch.detector
        self._rates_L = np.asarray(rates_L)
        self._learnt_at_L = np.full(len(self._rates_L), np.inf)
        self._times_in_a_row_L = np.zeros(len(self._rates_L), int)
        self._began_at_L = np.zeros(len(self._rates_L), int)
        for record in records:
            self.observe(record["step"], record[watch.metric])

    @property
    def watches(self) -> bool:
        """Whether evaluations matter at all."""
        return self._config.stop_after is not None

    @property
    def last_step(self) -> int:
        """Where the run ends, unless lanes that have yet to learn do so; a whole number of
        checkpoint intervals, so that no grid is broken."""
        if self._config.stop_after is None or math.isinf(learnt_at := self._learnt_at()):
            return self._config.steps
        grid = self._config.checkpoint_every or self._config.eval_every
        known_at = learnt_at + (SUSTAINED - 1) * self._config.eval_every
        wanted = max(self._config.stop_after * learnt_at, known_at)
        return min(math.ceil(wanted / grid) * grid, self._config.steps)

    def _learnt_at(self) -> float:
        """The step by which the last lane has learnt, or in a sweep the median lane (of an even
        number the later one) of the best rate."""
        rates = np.unique(self._rates_L)
        if len(rates) == 1:
            return float(np.max(self._learnt_at_L))
        return min(
            float(np.sort(own_S)[len(own_S) // 2])
            for own_S in (self._learnt_at_L[self._rates_L == rate] for rate in rates)
        )

    def observe(self, step: int, metric_L: Sequence[float | None]) -> None:
        """Take note of an evaluation; None where the run had diverged."""
        is_done_L = self._detector.progress(np.asarray(metric_L, np.float64)) > self._detector.done
        self._began_at_L = np.where(
            is_done_L & (self._times_in_a_row_L == 0), step, self._began_at_L
        )
        self._times_in_a_row_L = np.where(is_done_L, self._times_in_a_row_L + 1, 0)
        has_learnt_L = (self._times_in_a_row_L >= SUSTAINED) & np.isinf(self._learnt_at_L)
        self._learnt_at_L[has_learnt_L] = self._began_at_L[has_learnt_L]
