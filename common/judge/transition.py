"""Detect a phase transition from a metric curve or from a probe curve, with the control checkpoints
around it.

A curve is a sequence of (step, value) pairs of one run. Both detectors answer with a `Transition`
or with a `NoTransition` that says why: on runs that never learn, "the steepest point" is noise and
must not be taken for a checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

import numpy as np
from pydantic import Field

from common.base.config import PositiveInt, configuration

SUSTAINED = 3
"""Evaluations in a row that a finish must last, as the 90% of t90 must
(`common.judge.stats.learning_time`): one above its level may be a blip."""


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
    """Candidates lie above this fraction ..."""
    leave: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """... and below this one."""
    done: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """The transition ends when this fraction is first exceeded for three evaluations in a row."""
    smoothing: PositiveInt = 3
    """Width of the centred moving average, in points."""

    metric: ClassVar[str] = "accuracy"
    reads_all: ClassVar[bool] = False

    def detect(self, steps: Sequence[int], values: Sequence[float]) -> "Transition | NoTransition":
        """See `detect_on_metric`."""
        return detect_on_metric(steps, values, self)

    def progress(self, values: np.ndarray) -> np.ndarray:
        """How far values of the metric are on the way from the floor, 0, to the ceiling, 1."""
        return (np.asarray(values, np.float64) - self.floor) / (self.ceiling - self.floor)

    def __post_init__(self) -> None:
        if not self.begin <= self.enter < self.leave <= self.done:
            raise ValueError("detector: the thresholds must satisfy begin <= enter < leave <= done")
        if self.floor == self.ceiling:
            raise ValueError("detector: floor and ceiling must differ")


@dataclass(frozen=True)
class Watch:
    """What tells while a run trains that its transition begins and that it has learnt: for the ring
    of checkpoints, and for an early end."""

    metric: str = "accuracy"
    """Name in the run's records."""
    detector: DetectorConfig = DetectorConfig()
    """Its `begin` and `done`, between its floor and ceiling, are read; both must be known
    beforehand."""


@dataclass(frozen=True)
class Transition:
    """Where a run goes through its transition, in steps; every step is one of the curve's.

    `chosen` is the checkpoint to teach from; `before` and `after` are the controls at which
    nothing, or everything, has been learnt, half-way (in steps) from the beginning of the run to
    `start`, and from `end` to the end of the run, or the last such checkpoint before that.
    """

    start: int
    middle: int
    end: int
    chosen: int
    before: int
    after: int


@dataclass(frozen=True)
class NoTransition:
    """There is no transition to be found, and why."""

    reason: str


class Detector(Protocol):
    """Finds the transition of a run from one of its metrics."""

    metric: ClassVar[str]
    """Which."""
    reads_all: ClassVar[bool]
    """Whether it looks at all evaluations, or at those only at which a checkpoint was saved."""

    def detect(self, steps: Sequence[int], values: Sequence[float]) -> Transition | NoTransition:
        """The transition of a curve."""
        ...


def smooth(values: Sequence[float] | np.ndarray, width: int) -> np.ndarray:
    """Centred moving average of `width` points; the ends average over the points that exist."""
    values = np.asarray(values, np.float64)
    kernel = np.ones(width)
    return (
        np.convolve(values, kernel, "same")[: len(values)]
        / np.convolve(np.ones(len(values)), kernel, "same")[: len(values)]
    )


def detect_on_metric(
    steps: Sequence[int], values: Sequence[float], config: DetectorConfig
) -> Transition | NoTransition:
    """Find the transition of a rising (or, with ceiling < floor, falling) metric: the steepest
    point of the smoothed curve inside the window.

    The window is gated: it must hold a point strictly between `enter` and `leave` after the metric
    has begun to move, and the metric must finish for three evaluations in a row.

    Args:
        steps: increasing.
        values: the metric at those steps.
        config: thresholds.
    """
    if problem := malformed(steps, values):
        return NoTransition(problem)
    progress = config.progress(np.asarray(values))
    finished = lasting(progress > config.done)
    if not (progress > config.begin).any():
        return NoTransition(
            f"the metric never leaves its floor (best {_best(values, config):.3g}, floor"
            f" {config.floor:.3g})"
        )
    if not finished.any():
        needed = f"{_level(config.done, config):.3g} {SUSTAINED} times in a row"
        return NoTransition(
            f"the metric has not finished (best {_best(values, config):.3g}, needs {needed})"
        )
    end = int(np.argmax(finished))
    outside_before_end = np.flatnonzero(progress[:end] <= config.begin)
    start = (
        int(outside_before_end[-1]) + 1 if outside_before_end.size else 0
    )  # the last departure from the floor: a blip before it is noise
    window = np.flatnonzero((progress > config.enter) & (progress < config.leave))
    window = window[(window >= start) & (window <= end)]
    if not window.size:
        return NoTransition(
            f"no point between {_level(config.enter, config):.3g} and"
            f" {_level(config.leave, config):.3g}: evaluate and save more often"
        )
    slope = np.gradient(smooth(progress, config.smoothing), np.asarray(steps, np.float64))
    chosen = int(window[np.argmax(slope[window])])
    middle = start + int(np.argmax(progress[start : end + 1] >= 0.5))
    is_unlearnt, is_learnt = progress <= config.enter, progress > config.done
    return controls(
        steps,
        start=start,
        middle=middle,
        end=end,
        chosen=chosen,
        is_unlearnt=is_unlearnt,
        is_learnt=is_learnt,
    )


def detect_on_probe(
    steps: Sequence[int],
    values: Sequence[float],
    noise_floor: float,
    *,
    smoothing: int = 3,
    prominence: float = 3.0,
) -> Transition | NoTransition:
    """Find the transition as the peak of a probe that spikes (degree-1 correlation, M_robust),
    after smoothing: raw probe curves are jagged.

    Args:
        steps: increasing.
        values: the probe, non-negative.
        noise_floor: what the probe reads when there is nothing to find.
        smoothing: width of the moving average in points.
        prominence: how many noise floors the smoothed peak must reach.
    """
    if problem := malformed(steps, values):
        return NoTransition(problem)
    smoothed = smooth(values, smoothing)
    peak = int(np.argmax(smoothed))
    if smoothed[peak] < prominence * noise_floor:
        return NoTransition(
            f"the smoothed peak {smoothed[peak]:.3g} is below {prominence:g} x the noise floor"
            f" {noise_floor:.3g}"
        )
    if peak == len(smoothed) - 1:
        return NoTransition("the probe still rises at the last point: train longer")
    high = smoothed >= smoothed[peak] / 2
    start = peak - int(np.argmin(high[peak::-1])) + 1 if not high[: peak + 1].all() else 0
    end = peak + int(np.argmin(high[peak:])) - 1 if not high[peak:].all() else len(high) - 1
    anywhere = np.ones(len(steps), bool)  # a probe tells where the model learns, not what it knows
    return controls(
        steps,
        start=start,
        middle=peak,
        end=end,
        chosen=peak,
        is_unlearnt=anywhere,
        is_learnt=anywhere,
    )


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
    """A transition from indices into the curve, with its controls: of the curve's steps the last
    ones not beyond the half of the way.

    Half-way in steps, not in points, which a ring of checkpoints crowds into the transition.
    Before: half-way to the last departure from the floor, not to the first, which in a noisy metric
    is a blip close to the untrained model. After: not sooner, because a checkpoint just after the
    transition still carries some of its curriculum.

    Args:
        steps: increasing.
        start: index of the transition's first point, and so on.
        middle: where half of it is done.
        end: its last point.
        chosen: the checkpoint to teach from.
        is_unlearnt: points that can be the control before; without one it is the first of all.
        is_learnt: points that can be the control after; without one it is the end.
    """

    def last_allowed(first: int, last: int, is_allowed: np.ndarray) -> int:
        half = int(np.searchsorted(steps, (steps[first] + steps[last]) / 2, side="right"))
        allowed = np.flatnonzero(is_allowed[first:half])
        return first + int(allowed[-1]) if allowed.size else first

    before, after = (
        last_allowed(0, start, is_unlearnt),
        last_allowed(end, len(steps) - 1, is_learnt),
    )
    return Transition(*(int(steps[i]) for i in (start, middle, end, chosen, before, after)))


def lasting(reached: np.ndarray) -> np.ndarray:
    """Which points of a curve are the first of `SUSTAINED` in a row that have reached a level."""
    is_first = reached.copy()
    for later in range(1, SUSTAINED):
        is_first[:-later] &= reached[later:]
        is_first[-later:] = False  # the curve ends too soon to tell
    return is_first


def malformed(steps: Sequence[int], values: Sequence[float]) -> str | None:
    """Why nothing can be found on such a curve; None if something might."""
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
