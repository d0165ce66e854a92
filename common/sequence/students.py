"""The students of an experiment on tokens: their strategies, lengths, sizes and first checkpoints,
and what their runs are called.

Plans make these runs (`common.experiment.students`), claims read them
(`common.sequence.student_claims`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from common.base.config import Overrides, PositiveInt, configuration
from common.runs.tuning import SweepConfig

TEACHER = "teacher"
"""The run of the teachers."""
TUNED_TEACHER = "tune/teacher"
"""The one teacher of the students by whom rates and first checkpoints are chosen."""
STRATEGIES = ("ce", "one-shot", "progressive", "two-shot")
"""Supervision schedules that every experiment compares, by their names on the command line."""


@configuration
class BudgetConfig:
    """A run of the students of another length, and the pace of its supervision (see `distill
    --help`)."""

    steps: PositiveInt
    interval: PositiveInt
    speed: PositiveInt
    first_steps: PositiveInt


class First(NamedTuple):
    """A first checkpoint of two-shot students."""

    label: str
    """C1, or what it is instead: +200 is 200 teacher steps after C1, end the end of the drop."""
    overrides: Overrides
    """How these students differ from the two-shot students at C1."""

    @property
    def folder(self) -> str:
        """Of its runs."""
        return self.label if self.label[0].isalpha() else f"at{self.label}"


C1 = First("C1", {})
"""What the strategy `two-shot` begins with: the checkpoint detected in the teacher's transition."""


@configuration
class FirstCheckpointConfig:
    """Two-shot students of further first checkpoints, from the teacher's plateau to its tail, by
    their distance from C1."""

    offsets: Annotated[tuple[int, ...], Field(min_length=2)]
    """Teacher steps from the detected C1; C1 itself is the strategy `two-shot`."""

    def __post_init__(self) -> None:
        if (
            0 in self.offsets
            or list(self.offsets) != sorted(set(self.offsets))
            or self.offsets[0] > 0
            or self.offsets[-1] < 0
        ):
            raise ValueError(
                f"first.offsets = {self.offsets}: they must rise from before C1 to after it; C1"
                " itself is the strategy two-shot"
            )

    @property
    def firsts(self) -> tuple[First, ...]:
        """All of them in order, C1 among them."""
        around = [First(f"{at:+d}", {"supervision.offset": at}) for at in self.offsets]
        num_before = sum(at < 0 for at in self.offsets)
        return (*around[:num_before], C1, *around[num_before:])


@configuration
class FirstPhaseConfig:
    """Two-shot students of further first checkpoints, from the teacher's plateau to its tail, by
    their place in its three phases."""

    before: Annotated[tuple[Literal["before", "start"], ...], Field(min_length=1)]
    """before: half-way through the plateau; start: its end, where the drop starts."""
    after: Annotated[tuple[Literal["end", "after"], ...], Field(min_length=1)]
    """end: that of the drop; after: half-way through the tail."""

    def __post_init__(self) -> None:
        for name, places, order in (
            ("before", self.before, ("before", "start")),
            ("after", self.after, ("end", "after")),
        ):
            if list(places) != [place for place in order if place in places]:
                raise ValueError(
                    f"first.{name} = {places}: each place once, in the order {', '.join(order)}"
                )

    @property
    def firsts(self) -> tuple[First, ...]:
        """All of them in order, C1 among them."""
        before, after = (
            [First(LABEL_OF[place], {"supervision.candidate": place}) for place in places]
            for places in (self.before, self.after)
        )
        return (*before, C1, *after)


LABEL_OF: Mapping[str, str] = {
    "before": "plateau",
    "start": "start",
    "end": "end",
    "after": "tail",
}
"""The label of a candidate that is not C1."""


@configuration
class StudentRuns:
    """Which students are trained. An experiment's configuration has these fields beside its own."""

    _: KW_ONLY
    first: FirstCheckpointConfig | FirstPhaseConfig
    tuning: SweepConfig | None = None
    """The students' rates, each strategy's on seeds of their own; None: all run at the student's
    rate, and no claim about them is judged."""
    budgets: tuple[BudgetConfig, ...] = ()
    """Further lengths of the students' runs."""
    tunes_lengths: bool = False
    """Whether each of these lengths has rates of its own; otherwise they run at the rates chosen
    for the first one."""
    heads: tuple[PositiveInt, ...] = ()
    """Of students of further sizes, which run at all lengths and at the same rates."""

    @property
    def arms(self) -> Mapping[str, Overrides]:
        """What students are compared under: the name of each arm, and how its students differ from
        the experiment's. One of them, `ce`, learns from labels, and `two-shot` is the arm whose
        first checkpoint is varied."""
        return {strategy: {"schedule": strategy} for strategy in STRATEGIES}

    @property
    def lengthened(self) -> Sequence[str]:
        """The arms whose students are trained at further lengths and in further sizes, too."""
        return tuple(self.arms)


class FurtherStudent(NamedTuple):
    """Students of another length or size."""

    name: str
    strategy: str
    heads: int | None
    """None: the student's own."""
    budget: BudgetConfig | None
    """None: the student's own."""


def student(strategy: str, budget: BudgetConfig | None = None, heads: int | None = None) -> str:
    """The run of a strategy, of the student's own length and size or of others."""
    length = "student" if budget is None else f"budget/{budget.steps}"
    return f"{length}/{strategy}" if heads is None else f"heads/{heads}/{length}/{strategy}"


def further_students(runs: StudentRuns) -> list[FurtherStudent]:
    """Every run of students of another length or size."""
    kinds = [(heads, budget) for heads in (None, *runs.heads) for budget in (None, *runs.budgets)]
    return [
        FurtherStudent(student(strategy, budget, heads), strategy, heads, budget)
        for heads, budget in kinds[1:]
        for strategy in runs.lengthened
    ]


def sweep(strategy: str, budget: BudgetConfig | None = None) -> str:
    """The sweep over the rates of a strategy, for the student's own length or another."""
    return f"tune/{strategy}" if budget is None else f"tune/{budget.steps}/{strategy}"


def first_run(first: First) -> str:
    """The run of the two-shot students of one first checkpoint."""
    return student("two-shot") if first == C1 else f"first/{first.folder}"


def chosen_run(first: First) -> str:
    """The same of the tuned teacher's students, by whom the best first checkpoint is chosen."""
    return f"choose/{first.folder}"
