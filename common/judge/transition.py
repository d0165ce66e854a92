"""Detect a phase transition from a metric curve, with the control checkpoints around it.

A curve is a sequence of (step, value) pairs of one run. A detector returns a `Transition`, or a
`NoTransition` with the reason: the steepest point of a run that never learns is noise, and no
checkpoint to teach from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

import numpy as np
from pydantic import Field

from common.base.config import PositiveInt, configuration

SUSTAINED = 3
"""Evaluations in a row that a metric must stay above a level to have reached it, as for t90
(`common.judge.stats.learning_time`): one alone may be a blip."""


@configuration
class DetectorConfig:
    """Thresholds of the detector, as fractions of the way from the curve's floor to its ceiling."""

    floor: float = 0.5
    """Value of the metric before anything is learnt (accuracy at chance, loss of the plateau)."""
    ceiling: float = 1.0
    """Value at the end of learning; below the floor for a metric that descends."""
    begin: Annotated[float, Field(gt=0, lt=1)] = 0.06
    """The transition starts when this fraction is first exceeded."""
    enter: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Candidates for the chosen checkpoint lie above this fraction."""
    leave: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Candidates lie below this fraction."""
    done: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """The transition ends when this fraction is first exceeded for three evaluations in a row."""
    smoothing: PositiveInt = 3
    """Width of the centred moving average, in points."""

    metric: ClassVar[str] = "accuracy"
    reads_all: ClassVar[bool] = False

    def detect(self, steps: Sequence[int], values: Sequence[float]) -> "Transition | NoTransition":
        """As `detect_on_metric` with these thresholds."""
        return detect_on_metric(steps, values, self)

    def progress(self, values: np.ndarray) -> np.ndarray:
        """Values of the metric as fractions of the way from the floor (0) to the ceiling (1)."""
        return (np.asarray(values, np.float64) - self.floor) / (self.ceiling - self.floor)

    def __post_init__(self) -> None:
        if not self.begin <= self.enter < self.leave <= self.done:
            raise ValueError("detector: the thresholds must satisfy begin <= enter < leave <= done")
        if self.floor == self.ceiling:
            raise ValueError("detector: floor and ceiling must differ")


@dataclass(frozen=True)
class Watch:
    """The metric that tells while a run trains when its transition begins and when it has learnt.
    The ring of checkpoints and an early end depend on it."""

    metric: str = "accuracy"
    """Name in the run's records."""
    detector: DetectorConfig = DetectorConfig()
    """Only its `begin` and `done` are read, with its floor and ceiling, which must be known
    beforehand."""


@dataclass(frozen=True)
class Transition:
    """The steps of a run's transition; each is a step of the curve.

    `chosen` is the checkpoint to teach from. `before` and `after` are the controls, at which
    nothing, or everything, has been learnt. They lie half-way (in steps) from the beginning of the
    run to `start` and from `end` to the end of the run; if there is no such checkpoint there, at
    the last one sooner.
    """

    start: int
    middle: int
    end: int
    chosen: int
    before: int
    after: int


@dataclass(frozen=True)
class NoTransition:
    """No transition was found, for this reason."""

    reason: str


class Detector(Protocol):
    """Finds the transition of a run from one of its metrics."""

    metric: ClassVar[str]
    """Name of the metric."""
    reads_all: ClassVar[bool]
    """Whether it reads all evaluations; otherwise only those at saved checkpoints."""

    def detect(self, steps: Sequence[int], values: Sequence[float]) -> Transition | NoTransition:
        """The transition of a curve."""
        ...


def smooth(values: Sequence[float] | np.ndarray, width: int) -> np.ndarray:
    """Centred moving average over `width` points; near the ends over those that exist."""
    values = np.asarray(values, np.float64)
    first = (width - 1) // 2
    of_points = slice(first, first + len(values))
    sums = np.convolve(values, np.ones(width))[of_points]
    counts = np.convolve(np.ones(len(values)), np.ones(width))[of_points]
    return sums / counts


def detect_on_metric(
    steps: Sequence[int], values: Sequence[float], config: DetectorConfig
) -> Transition | NoTransition:
    """Find the transition of a rising (or, with ceiling < floor, falling) metric: the steepest
    point of the smoothed curve among the candidates.

    Candidates lie strictly between `enter` and `leave`, after the metric has begun to move. There
    must be one, and the metric must finish for three evaluations in a row.

    Args:
        steps: increasing.
        values: the metric at those steps.
        config: thresholds.
    """
    if problem := malformed(steps, values):
        return NoTransition(problem)
    progress = config.progress(np.asarray(values))
    if refusal := _unfinished(values, progress, config):
        return NoTransition(refusal)
    end = int(np.argmax(lasting(progress > config.done)))
    # The last departure from the floor: a blip before it is noise.
    on_floor = np.flatnonzero(progress[:end] <= config.begin)
    start = int(on_floor[-1]) + 1 if on_floor.size else 0
    candidates = np.flatnonzero((progress > config.enter) & (progress < config.leave))
    candidates = candidates[(candidates >= start) & (candidates <= end)]
    if not candidates.size:
        return NoTransition(
            f"no point between {_level(config.enter, config):.3g} and"
            f" {_level(config.leave, config):.3g}: evaluate and save more often"
        )
    slope = np.gradient(smooth(progress, config.smoothing), np.asarray(steps, np.float64))
    return controls(
        steps,
        start=start,
        middle=start + int(np.argmax(progress[start : end + 1] >= 0.5)),
        end=end,
        chosen=int(candidates[np.argmax(slope[candidates])]),
        is_unlearnt=progress <= config.enter,
        is_learnt=progress > config.done,
    )


def _unfinished(
    values: Sequence[float], progress: np.ndarray, config: DetectorConfig
) -> str | None:
    """Why a metric has not gone from its floor to its ceiling; None if it has."""
    if not (progress > config.begin).any():
        return (
            f"the metric never leaves its floor (best {_best(values, config):.3g}, floor"
            f" {config.floor:.3g})"
        )
    if not lasting(progress > config.done).any():
        needed = f"{_level(config.done, config):.3g} {SUSTAINED} times in a row"
        return f"the metric has not finished (best {_best(values, config):.3g}, needs {needed})"
    return None


def controls(
    steps: Sequence[int],
    *,
    start: int,
    middle: int,
    end: int,
    chosen: int,
    is_unlearnt: np.ndarray,
    is_learnt: np.ndarray,
) -> Transition:
    """A transition from indices into the curve, with its controls.

    Each control is the last allowed step of the curve within the first half of a stretch: from the
    beginning of the run to `start`, and from `end` to its end. The half is counted in steps,
    because a ring of checkpoints crowds its points into the transition. `start` is the last
    departure from the floor: in a noisy metric the first is a blip close to the untrained model. A
    checkpoint just after the transition still carries some of its curriculum, so the control after
    it must not come sooner.

    Args:
        steps: increasing.
        start: index of the transition's first point.
        middle: index of the point at which half of it is done.
        end: index of its last point.
        chosen: index of the checkpoint to teach from.
        is_unlearnt: which points can be the control before; without one it is the first of all.
        is_learnt: which points can be the control after; without one it is `end`.
    """

    def last_allowed(first: int, last: int, is_allowed: np.ndarray) -> int:
        half = int(np.searchsorted(steps, (steps[first] + steps[last]) / 2, side="right"))
        allowed = np.flatnonzero(is_allowed[first:half])
        return first + int(allowed[-1]) if allowed.size else first

    before = last_allowed(0, start, is_unlearnt)
    after = last_allowed(end, len(steps) - 1, is_learnt)
    return Transition(*(int(steps[i]) for i in (start, middle, end, chosen, before, after)))


def lasting(reached: np.ndarray) -> np.ndarray:
    """Which points of a curve are the first of `SUSTAINED` in a row that have reached a level."""
    is_first = reached.copy()
    for later in range(1, SUSTAINED):
        is_first[:-later] &= reached[later:]
        is_first[-later:] = False  # the curve ends too soon to tell
    return is_first


def malformed(steps: Sequence[int], values: Sequence[float]) -> str | None:
    """Why no transition can be looked for on a curve; None if one can."""
    if len(steps) != len(values):
        raise ValueError(f"{len(steps)} steps but {len(values)} values")
    if len(steps) < 5:
        return f"only {len(steps)} points: too few to see a transition"
    if not np.isfinite(np.asarray(values, np.float64)).all():
        return "the curve holds NaN or infinite values: the run diverged"
    return None


def _level(fraction: float, config: DetectorConfig) -> float:
    return config.floor + fraction * (config.ceiling - config.floor)


def _best(values: Sequence[float], config: DetectorConfig) -> float:
    return max(values) if config.ceiling > config.floor else min(values)
