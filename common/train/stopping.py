"""When a run ends: with its budget, or sooner: at a multiple of the step by which every lane has
learnt, or once no lane's loss falls any more.

Transition times are heavy-tailed: a budget for a slow seed is many times what a fast one needs. The
multiple gives a teacher time after its transition, in which its answers become those of a final
checkpoint. A sweep looks for the learning rate whose median seed learns first, so it may end when
the median seed of one rate has learnt.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from common.base.config import TrainingConfig
from common.judge.flatness import recent_fall
from common.judge.transition import SUSTAINED, Watch

SOONEST = 0.25
"""Part of its budget that a run trains before a flat loss ends it: a plateau is flat as well."""


def stopping(
    config: TrainingConfig,
    watch: Watch,
    rates_L: Sequence[float],
    records: Iterable[Mapping[str, Any]],
) -> "Stopping":
    """How a run ends, given its evaluations so far; a new run has none.

    Args:
        config: the budget, and whether the run may end before it.
        watch: when a lane counts as having learnt.
        rates_L: learning rate of every lane; with several the best one decides when the run has
            learnt.
        records: rows of metrics.jsonl. With them an interrupted run ends at the same step as an
            uninterrupted one.
    """
    ends: Stopping
    if config.stop_after is not None:
        ends = WhenLearnt(config, config.stop_after, watch, rates_L)
    elif config.stop_when_flat is not None:
        ends = WhenFlat(config, config.stop_when_flat)
    else:
        ends = AtBudget(config)
    if ends.metric is not None:
        for record in records:
            ends.observe(record["step"], record[ends.metric])
    return ends


class Stopping(ABC):
    """Works out the last step of a run from its evaluations so far."""

    metric: str | None
    """What it has to know of every evaluation, by its name in the run's records; None: nothing."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config

    @property
    @abstractmethod
    def last_step(self) -> int:
        """The step at which the run ends, by what is known now. It is a multiple of the checkpoint
        interval, so that checkpoints stay evenly spaced."""

    @abstractmethod
    def observe(self, step: int, metric_L: Sequence[float | None]) -> None:
        """Take an evaluation into account; the metric of a diverged lane is None."""

    def _on_grid(self, step: float) -> int:
        """The first step of the grid from this one on, or the budget."""
        grid = self._config.checkpoint_every or self._config.eval_every
        return min(math.ceil(step / grid) * grid, self._config.steps)


class AtBudget(Stopping):
    """Every run's end unless it is told otherwise."""

    metric = None

    @property
    def last_step(self) -> int:
        """That of the budget."""
        return self._config.steps

    def observe(self, step: int, metric_L: Sequence[float | None]) -> None:
        """Nothing depends on evaluations."""


class WhenFlat(Stopping):
    """Ends a run at the first evaluation at which the loss of every lane is flat."""

    metric = "eval_loss"

    def __init__(self, config: TrainingConfig, least_fall: float) -> None:
        super().__init__(config)
        self._least_fall = least_fall
        self._steps: list[int] = []
        self._losses_ExL: list[list[float]] = []
        self._last_step = config.steps

    @property
    def last_step(self) -> int:
        """That at which the loss was flat, once it was."""
        return self._last_step

    def observe(self, step: int, metric_L: Sequence[float | None]) -> None:
        """Take an evaluation into account. A diverged lane is not flat."""
        self._steps.append(step)
        loss_L = np.asarray(metric_L, np.float64)
        # As the file of metrics has it.
        self._losses_ExL.append(np.where(np.isfinite(loss_L), loss_L, np.nan).tolist())
        if step < SOONEST * self._config.steps or self._last_step < self._config.steps:
            return
        if np.all(recent_fall(self._steps, self._losses_ExL) < self._least_fall):
            self._last_step = self._on_grid(step)


class WhenLearnt(Stopping):
    """Ends a run at a multiple of the step by which every lane has learnt."""

    def __init__(
        self, config: TrainingConfig, factor: float, watch: Watch, rates_L: Sequence[float]
    ) -> None:
        super().__init__(config)
        self.metric = watch.metric
        self._factor = factor
        self._detector = watch.detector
        self._rates_L = np.asarray(rates_L)
        self._learnt_at_L = np.full(len(self._rates_L), np.inf)
        self._times_in_a_row_L = np.zeros(len(self._rates_L), int)
        self._began_at_L = np.zeros(len(self._rates_L), int)

    @property
    def last_step(self) -> int:
        """The budget's, if no lane learns from now on."""
        learnt_at = self._learnt_at()
        if math.isinf(learnt_at):
            return self._config.steps
        known_at = learnt_at + (SUSTAINED - 1) * self._config.eval_every
        return self._on_grid(max(self._factor * learnt_at, known_at))

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
