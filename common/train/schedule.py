"""Supervision schedules: which teacher checkpoint supervises student step t (paper section 3,
"progressive distillation").

Student step t is the update that follows t completed updates; the first is t = 0. A schedule is a
pure description. What an adaptive one remembers is a small JSON value, which the training loop
keeps in its resume state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from common.base.config import PositiveInt, configuration
from common.base.errors import UserError

ScheduleName = Literal["ce", "one-shot", "progressive", "two-shot", "till-saturate", "projections"]
Candidate = Literal["before", "start", "during", "end", "after"]
"""A checkpoint by its place in the teacher's transition, see `common.judge.transition.Transition`;
during: the chosen one (C1)."""
State = dict[str, Any]
"""What a schedule remembers between evaluations; JSON values only."""
NEEDED: dict[ScheduleName, str] = {
    "two-shot": "first_steps",
    "projections": "projection_steps",
}
"""Schedules that need a parameter, and its name; none of these has a default."""


@configuration
class ScheduleConfig:
    """Parameters of the schedules. The text of each says which schedules read it."""

    interval: PositiveInt = 1
    """progressive: student steps from one supervising checkpoint to the next. till-saturate passes
    through the same checkpoints as one that begins with the untrained teacher."""
    speed: PositiveInt = 1
    """progressive, till-saturate: teacher steps from one supervising checkpoint to the next, over
    `interval` (paper: 1; appendix: 2)."""
    first_steps: PositiveInt | None = None
    """two-shot, required: student steps on the first checkpoint before the final one takes over
    (the paper's T)."""
    begin: Literal["untrained", "transition"] = "untrained"
    """progressive: the teacher's checkpoints from the beginning of its training on, or (as
    published for text) from the first checkpoint of two-shot on."""
    candidate: Candidate = "during"
    """two-shot, and progressive that begins in the transition: the first checkpoint is the one
    detected inside the teacher's transition, or that at its start or its end, or a control before
    or after it."""
    offset: int = 0
    """The same: teacher steps from the candidate to the first checkpoint (negative: before it); the
    nearest checkpoint is taken."""
    without_transition: Literal["refuse", "final"] = "refuse"
    """The same, if a teacher has no transition: refuse to train, or learn from its final checkpoint
    alone."""
    projection_steps: PositiveInt | None = None
    """projections, required: student steps on each hidden layer before the final outputs take
    over."""
    averaged: PositiveInt = 5
    """till-saturate: number of evaluations over which the student's accuracy is averaged and its
    gain measured."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """till-saturate: a gain above this counts as a rise, a gain below it as saturation."""
    patience: PositiveInt = 2_000_000
    """till-saturate: student steps after which the next checkpoint comes in any case."""


@dataclass(frozen=True)
class Segment:
    """Student steps start <= t < stop learn from the teacher checkpoint at `teacher_step`; None:
    from the data's labels alone."""

    start: int
    stop: int
    teacher_step: int | None
    layer: int | None = None
    """The hidden layer whose random projections are learnt; None: the outputs are."""


@dataclass(frozen=True)
class FixedSchedule:
    """A schedule that is known beforehand: consecutive segments that cover the whole run."""

    segments: tuple[Segment, ...]
    adaptive: ClassVar[bool] = False

    def initial_state(self) -> State:
        """Empty: there is nothing to remember."""
        return {}

    def teacher_step(self, step: int, state: State) -> int | None:
        """The teacher checkpoint that supervises student step `step`."""
        return self._segment(step).teacher_step

    def layer(self, step: int) -> int | None:
        """The hidden layer that student step `step` learns; None: the outputs."""
        return self._segment(step).layer

    def next_change(self, step: int) -> int:
        """The next student step at which the supervision changes, or the end of the run."""
        return self._segment(step).stop

    def observe(self, step: int, accuracy: float, state: State) -> State:
        """The state as it was: a fixed schedule ignores the student."""
        return state

    def possible_teacher_steps(self) -> tuple[int, ...]:
        """Every teacher checkpoint this schedule may ask for."""
        steps = {segment.teacher_step for segment in self.segments}
        return tuple(sorted(step for step in steps if step is not None))

    def _segment(self, step: int) -> Segment:
        return next(segment for segment in self.segments if segment.start <= step < segment.stop)


@dataclass(frozen=True)
class TillSaturate:
    """Move to the next checkpoint when the student's smoothed accuracy has risen since the last
    change and then stops rising.

    It has risen if it gained more than `threshold` since the last change. It has stopped if it
    gained less than `threshold` over the last `averaged` evaluations. After `patience` steps
    without a change the next checkpoint comes in any case. Changes fall on evaluations.
    """

    teacher_steps: tuple[int, ...]
    total_steps: int
    averaged: int
    threshold: float
    patience: int
    adaptive: ClassVar[bool] = True

    def initial_state(self) -> State:
        """The state at the first checkpoint, without a history."""
        return {"index": 0, "changed_at": 0, "base": None, "recent": [], "smoothed": []}

    def teacher_step(self, step: int, state: State) -> int | None:
        """The checkpoint in use."""
        return self.teacher_steps[state["index"]]

    def layer(self, step: int) -> int | None:
        """None: the student always learns the outputs."""
        return None

    def next_change(self, step: int) -> int:
        """The end of the run: only an evaluation can change the supervision sooner."""
        return self.total_steps

    def observe(self, step: int, accuracy: float, state: State) -> State:
        """The state after an evaluation of the student following `step` updates."""
        recent = [*state["recent"], accuracy][-self.averaged :]
        now = sum(recent) / len(recent)
        smoothed = [*state["smoothed"], now][-self.averaged - 1 :]
        base = now if state["base"] is None else state["base"]
        risen = now - base > self.threshold
        stopped = len(smoothed) > self.averaged and now - smoothed[0] < self.threshold
        out_of_patience = step - state["changed_at"] >= self.patience
        has_next = state["index"] + 1 < len(self.teacher_steps)
        if has_next and ((risen and stopped) or out_of_patience):
            return {
                "index": state["index"] + 1,
                "changed_at": step,
                "base": now,
                "recent": recent,
                "smoothed": [now],
            }
        return state | {"base": base, "recent": recent, "smoothed": smoothed}

    def possible_teacher_steps(self) -> tuple[int, ...]:
        """Every teacher checkpoint this schedule may ask for."""
        return self.teacher_steps


Schedule = FixedSchedule | TillSaturate


def ce(total_steps: int) -> FixedSchedule:
    """The data's labels, always."""
    return FixedSchedule((Segment(0, total_steps, None),))


def one_shot(total_steps: int, last: int) -> FixedSchedule:
    """The teacher's final checkpoint, always."""
    return FixedSchedule((Segment(0, total_steps, last),))


def progressive(
    total_steps: int, last: int, interval: int, speed: int = 1, first_step: int | None = None
) -> FixedSchedule:
    """Teacher checkpoint min(first + speed * floor(t / interval) * interval, last) at student step
    t.

    Args:
        total_steps: student steps in all.
        last: step of the teacher's final checkpoint.
        interval: student steps on each checkpoint.
        speed: teacher steps in each of them.
        first_step: of the first checkpoint; None: speed * interval.
    """
    apart = speed * interval
    first = apart if first_step is None else first_step
    pieces = []
    for start in range(0, total_steps, interval):
        teacher_step = min(first + apart * (start // interval), last)
        if teacher_step == last:
            return FixedSchedule((*pieces, Segment(start, total_steps, last)))
        pieces.append(Segment(start, min(start + interval, total_steps), teacher_step))
    return FixedSchedule(tuple(pieces))


def two_shot(total_steps: int, last: int, first_step: int, duration: int) -> FixedSchedule:
    """A chosen checkpoint for a chosen duration, then the final checkpoint until the end.

    Args:
        total_steps: student steps in all.
        last: step of the teacher's final checkpoint.
        first_step: step of the chosen checkpoint.
        duration: student steps on it.
    """
    first = Segment(0, min(duration, total_steps), first_step)
    if first.stop == total_steps:
        return FixedSchedule((first,))
    return FixedSchedule((first, Segment(first.stop, total_steps, last)))


def projections(total_steps: int, last: int, num_layers: int, steps_each: int) -> FixedSchedule:
    """Random projections of each hidden layer of the final teacher, from the first layer up, then
    its outputs: "curriculum extraction" (Gupta and Karmalkar 2025, arXiv 2503.17494), which needs
    the final checkpoint only.

    Args:
        total_steps: student steps in all.
        last: step of the teacher's final checkpoint.
        num_layers: hidden layers.
        steps_each: student steps on each of them.
    """
    pieces = []
    for layer in range(num_layers):
        start = layer * steps_each
        if start < total_steps:
            pieces.append(Segment(start, min(start + steps_each, total_steps), last, layer))
    if pieces[-1].stop < total_steps:
        pieces.append(Segment(pieces[-1].stop, total_steps, last))
    return FixedSchedule(tuple(pieces))


def till_saturate(total_steps: int, last: int, config: ScheduleConfig) -> TillSaturate:
    """The checkpoints of `progressive` from the untrained teacher on, in order to the final one,
    each until the student saturates on it."""
    apart = config.speed * config.interval
    teacher_steps = (*range(apart, last, apart), last)
    return TillSaturate(
        teacher_steps, total_steps, config.averaged, config.threshold, config.patience
    )


def reads_transition(name: ScheduleName, config: ScheduleConfig) -> bool:
    """Whether the first checkpoint of a schedule is read off the teacher's transition."""
    return name == "two-shot" or (name == "progressive" and config.begin == "transition")


def build(
    name: ScheduleName,
    config: ScheduleConfig,
    total_steps: int,
    last: int | None,
    first_teacher_step: int | None,
    num_layers: int = 1,
) -> Schedule:
    """The schedule of one lane.

    Args:
        name: which schedule.
        config: its parameters.
        total_steps: student steps in all.
        last: step of the teacher's final checkpoint; None only with ce.
        first_teacher_step: the first checkpoint, where it is read off the teacher's transition
            (`reads_transition`); None otherwise.
        num_layers: hidden layers of student and teacher, for projections.

    Raises:
        UserError: a parameter that the schedule needs is not given.
    """
    if name in NEEDED and not getattr(config, NEEDED[name]):
        raise UserError(f"--schedule {name} needs --supervision.{NEEDED[name].replace('_', '-')}")
    if name == "ce":
        return ce(total_steps)
    if last is None:
        raise ValueError(f"schedule {name} needs a teacher")
    if not reads_transition(name, config):
        first_teacher_step = None
    elif first_teacher_step is None:
        raise ValueError(f"schedule {name} needs its first teacher checkpoint")
    builders: dict[ScheduleName, Callable[[], Schedule]] = {
        "one-shot": lambda: one_shot(total_steps, last),
        "progressive": lambda: progressive(
            total_steps, last, config.interval, config.speed, first_teacher_step
        ),
        "two-shot": lambda: two_shot(
            total_steps, last, cast(int, first_teacher_step), cast(int, config.first_steps)
        ),
        "till-saturate": lambda: till_saturate(total_steps, last, config),
        "projections": lambda: projections(
            total_steps, last, num_layers, cast(int, config.projection_steps)
        ),
    }
    return builders[name]()
