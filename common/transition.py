"""Detect a phase transition from a metric curve or from a probe curve, with the control checkpoints around it.

A curve is a sequence of (step, value) pairs of one run. Both detectors answer with a `Transition` or with a `NoTransition` that says why: on
runs that never learn, "the steepest point" is noise and must not be taken for a checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

import numpy as np
from pydantic import Field

from common.config import PositiveInt, configuration


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
    """The transition ends when this fraction is first exceeded."""
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
    """What tells while a run trains that its transition begins and that it has learnt: for the ring of checkpoints, and for an early end."""

    metric: str = "accuracy"
    """Name in the run's records."""
    detector: DetectorConfig = DetectorConfig()
    """Its `begin` and `done`, between its floor and ceiling, are read; both must be known beforehand."""


@dataclass(frozen=True)
class Transition:
    """Where a run goes through its transition, in steps; every step is one of the curve's.

    `chosen` is the checkpoint to teach from; `before` and `after` are the controls at which nothing, or everything, has been learnt, half-way (in
    steps) from the beginning of the run to `start`, and from `end` to the end of the run.
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
    return np.convolve(values, kernel, "same")[: len(values)] / np.convolve(np.ones(len(values)), kernel, "same")[: len(values)]


def detect_on_metric(steps: Sequence[int], values: Sequence[float], config: DetectorConfig) -> Transition | NoTransition:
    """Find the transition of a rising (or, with ceiling < floor, falling) metric: the steepest point of the smoothed curve inside the window.

    The window is gated: it must hold a point strictly between `enter` and `leave` after the metric has begun to move, and the metric must finish.

    Args:
        steps: increasing.
        values: the metric at those steps.
        config: thresholds.
    """
    if problem := malformed(steps, values):
        return NoTransition(problem)
    progress = config.progress(np.asarray(values))
    finished = progress > config.done
    if not (progress > config.begin).any():
        return NoTransition(f"the metric never leaves its floor (best {_best(values, config):.3g}, floor {config.floor:.3g})")
    if not finished.any():
        return NoTransition(f"the metric has not finished (best {_best(values, config):.3g}, needs {_level(config.done, config):.3g})")
    end = int(np.argmax(finished))
    outside_before_end = np.flatnonzero(progress[:end] <= config.begin)
    start = int(outside_before_end[-1]) + 1 if outside_before_end.size else 0  # the last departure from the floor: a blip before it is noise
    window = np.flatnonzero((progress > config.enter) & (progress < config.leave))
    window = window[(window >= start) & (window <= end)]
    if not window.size:
        return NoTransition(
            f"no point between {_level(config.enter, config):.3g} and {_level(config.leave, config):.3g}: evaluate and save more often"
        )
    slope = np.gradient(smooth(progress, config.smoothing), np.asarray(steps, np.float64))
    chosen = int(window[np.argmax(slope[window])])
    half = int(np.argmax(progress >= 0.5))
    return controls(steps, start=start, middle=min(max(half, start), end), end=end, chosen=chosen)


def detect_on_probe(
    steps: Sequence[int], values: Sequence[float], noise_floor: float, *, smoothing: int = 3, prominence: float = 3.0
) -> Transition | NoTransition:
    """Find the transition as the peak of a probe that spikes (degree-1 correlation, M_robust), after smoothing: raw probe curves are jagged.

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
        return NoTransition(f"the smoothed peak {smoothed[peak]:.3g} is below {prominence:g} x the noise floor {noise_floor:.3g}")
    if peak == len(smoothed) - 1:
        return NoTransition("the probe still rises at the last point: train longer")
    high = smoothed >= smoothed[peak] / 2
    start = peak - int(np.argmin(high[peak::-1])) + 1 if not high[: peak + 1].all() else 0
    end = peak + int(np.argmin(high[peak:])) - 1 if not high[peak:].all() else len(high) - 1
    return controls(steps, start=start, middle=peak, end=end, chosen=peak)


def controls(steps: Sequence[int], *, start: int, middle: int, end: int, chosen: int) -> Transition:
    """A transition from indices into the curve, with its controls: of the curve's steps the last ones not beyond the half of the way.

    Half-way in steps, not in points, which a ring of checkpoints crowds into the transition. Before: half-way to the last departure from the floor,
    not to the first, which in a noisy metric is a blip close to the untrained model. After: not sooner, because a checkpoint just after the
    transition still carries some of its curriculum.
    """
    before, after = ((steps[first] + steps[last]) / 2 for first, last in ((0, start), (end, len(steps) - 1)))
    at = np.searchsorted(steps, (before, after), side="right") - 1
    return Transition(*(int(steps[i]) for i in (start, middle, end, chosen, *at)))


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
