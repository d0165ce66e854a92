"""When a run ends: with its budget, or sooner, at a multiple of the step by which every lane has
learnt.

Transition times are heavy-tailed: a budget for a slow seed is many times what a fast one needs. The
multiple gives a teacher time after its transition, in which its answers become those of a final
checkpoint. A sweep looks for the learning rate whose median seed learns first, so it may end when
the median seed of one rate has learnt.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from common.base.config import TrainingConfig
from common.judge.transition import SUSTAINED, Watch


class Stopping:
    """Works out the last step of a run from its evaluations so far."""

    def __init__(
        self,
        config: TrainingConfig,
        watch: Watch,
        rates_L: Sequence[float],
        records: Iterable[Mapping[str, Any]],
    ) -> None:
        """Begin with the evaluations of the run so far; a new run has none.

        Args:
            config: the budget, and whether the run may end before it.
            watch: when a lane counts as having learnt.
            rates_L: learning rate of every lane; with several the best one decides.
            records: rows of metrics.jsonl. With them an interrupted run ends at the same step as an
                uninterrupted one.
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
        """The step at which the run ends, if no lane learns from now on. It is a multiple of the
        checkpoint interval, so that checkpoints stay evenly spaced."""
        learnt_at = self._learnt_at()
        if self._config.stop_after is None or math.isinf(learnt_at):
            return self._config.steps
        grid = self._config.checkpoint_every or self._config.eval_every
        known_at = learnt_at + (SUSTAINED - 1) * self._config.eval_every
        wanted = max(self._config.stop_after * learnt_at, known_at)
        return min(math.ceil(wanted / grid) * grid, self._config.steps)

    def _learnt_at(self) -> float:
        """The step by which the last lane has learnt; in a sweep the median lane of the best rate
        (of an even number the later middle one)."""
        rates = np.unique(self._rates_L)
        if len(rates) == 1:
            return float(np.max(self._learnt_at_L))
        medians = []
        for rate in rates:
            ordered_S = np.sort(self._learnt_at_L[self._rates_L == rate])
            medians.append(float(ordered_S[len(ordered_S) // 2]))
        return min(medians)

    def observe(self, step: int, metric_L: Sequence[float | None]) -> None:
        """Take an evaluation into account; the metric of a diverged lane is None."""
        is_done_L = self._detector.progress(np.asarray(metric_L, np.float64)) > self._detector.done
        self._began_at_L = np.where(
            is_done_L & (self._times_in_a_row_L == 0), step, self._began_at_L
        )
        self._times_in_a_row_L = np.where(is_done_L, self._times_in_a_row_L + 1, 0)
        has_learnt_L = (self._times_in_a_row_L >= SUSTAINED) & np.isinf(self._learnt_at_L)
        self._learnt_at_L[has_learnt_L] = self._began_at_L[has_learnt_L]
