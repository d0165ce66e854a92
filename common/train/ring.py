"""A ring of recent checkpoints, closer together than the trajectory's, which are kept only where a
transition begins.

A transition can be a hundredth of a run, and its place is unknown beforehand. So a checkpoint is
written every few steps and waits in a ring; when the ring is full the oldest is dropped. When the
metric of a lane is off its floor for a second evaluation (the first may be a blip), all waiting
checkpoints are kept. So is every further one, until that lane has finished three times in a row or
has fallen back. A run keeps at most a few ring sizes for each lane, so that a lane which stalls
half-way cannot fill the disk. The state is a small JSON value, part of the resume state.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from common.judge.transition import SUSTAINED, DetectorConfig

State = dict[str, Any]
CONFIRMING = tuple(f"done {times}" for times in range(1, SUSTAINED))
"""Phases of a lane that has finished, but not often enough in a row."""
KEPT_SIZES = 5
"""Ring sizes that a run keeps at most, for each of its lanes."""


def initial_state(num_lanes: int) -> State:
    """The state at the start: no checkpoint waits or is kept, no lane has begun its transition."""
    return {"waiting": [], "num_kept": 0, "phase_L": ["before"] * num_lanes}


def most_kept(num_lanes: int, size: int) -> int:
    """The most checkpoints that a run keeps, apart from those that wait."""
    return KEPT_SIZES * size * num_lanes


def observe(
    state: State, step: int, metric_L: Sequence[float], size: int, detector: DetectorConfig
) -> tuple[State, tuple[int, ...]]:
    """The state after an evaluation at a step of the ring, and the steps whose checkpoints are now
    kept for good.

    Args:
        state: the state before.
        step: the step that has just been evaluated.
        metric_L: the metric of every lane.
        size: the most checkpoints that wait.
        detector: the metric's floor and ceiling, and the fractions of the way between them at which
            a transition begins and is done.
    """
    progress_L = detector.progress(np.asarray(metric_L)).tolist()
    phase_L = [
        _phase(phase, progress, detector)
        for phase, progress in zip(state["phase_L"], progress_L, strict=True)
    ]
    just_done = any(
        phase == "after" and earlier != "after"
        for phase, earlier in zip(phase_L, state["phase_L"], strict=True)
    )
    room = most_kept(len(phase_L), size) - state["num_kept"]
    if just_done or not {"during", *CONFIRMING}.isdisjoint(phase_L):
        kept = (*state["waiting"], step)[:room]
        return {"waiting": [], "num_kept": state["num_kept"] + len(kept), "phase_L": phase_L}, kept
    waits = room > 0 and not {"before", "begun"}.isdisjoint(phase_L)
    waiting = [*state["waiting"], step][-size:] if waits else []
    return state | {"waiting": waiting, "phase_L": phase_L}, ()


def _phase(phase: str, progress: float, detector: DetectorConfig) -> str:
    """The phase of a lane after an evaluation, from the one before it."""
    if phase == "after":
        return "after"
    if progress > detector.done:
        times = CONFIRMING.index(phase) + 2 if phase in CONFIRMING else 1
        return "after" if times == SUSTAINED else f"done {times}"
    if progress <= detector.begin:
        return "before"
    return "begun" if phase == "before" else "during"
