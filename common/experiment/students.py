"""The stages of an experiment on tokens that are the same whatever the tokens are of.

HOME/tune/...       sweeps over the students' learning rates, on seeds of their own
HOME/teacher        the teacher's trajectory
HOME/student/...    one run for each strategy
HOME/budget/...     the same for runs of other lengths
HOME/heads/...      the same, of all lengths, for students of other sizes
HOME/first/...      two-shot students of other first checkpoints

An experiment plans its probes and further stages between these.
"""

from typing import Any

from common.base.config import Overrides
from common.experiment.plan import Planner
from common.runs.tuning import SweepConfig
from common.sequence.students import (
    TEACHER,
    TUNED_TEACHER,
    BudgetConfig,
    StudentRuns,
    first_run,
    further_students,
    student,
)


def plan_teacher(planner: Planner, runs: StudentRuns) -> None:
    """The sweeps over the students' rates, where there are any, and the teacher."""
    if runs.tuning is not None:
        _tune(planner, runs, runs.tuning)
    planner.train(TEACHER, {})


def plan_strategy(planner: Planner, runs: StudentRuns, strategy: str) -> None:
    """The students of one strategy, of their own length and size."""
    _student(planner, runs, student(strategy), strategy, {})


def plan_further_students(planner: Planner, runs: StudentRuns) -> None:
    """Those of further first checkpoints, then those of further lengths and sizes."""
    for offset in runs.first.offsets:
        earlier_or_later = {"supervision.offset": offset}
        _student(planner, runs, first_run(offset), "two-shot", earlier_or_later)
    for name, strategy, heads, budget in further_students(runs):
        size = {} if heads is None else {"model.heads": heads}
        length = {} if budget is None else _length(budget, strategy)
        _student(planner, runs, name, strategy, {**size, **length})


def _tune(planner: Planner, runs: StudentRuns, tuning: SweepConfig) -> None:
    """One teacher for all students, who see the same examples: it answers once for the sweep."""
    one_seed = {"training.seed": tuning.seed, "training.num_seeds": 1}
    planner.train(TUNED_TEACHER, one_seed)
    for strategy, differences in runs.arms.items():
        overrides: dict[str, Any] = {
            **differences,
            "optim.learning_rate": tuning.learning_rate,
            "training.seed": tuning.seed,
            "training.num_seeds": tuning.num_seeds,
            "shared_stream": True,
        }
        teacher = None
        if strategy != "ce":
            teacher = TUNED_TEACHER
            overrides["teacher_seed"] = tuning.seed
        planner.distill(f"tune/{strategy}", overrides, teacher)


def _student(
    planner: Planner, runs: StudentRuns, name: str, strategy: str, overrides: Overrides
) -> None:
    teacher = None if strategy == "ce" else TEACHER
    sweep = None if runs.tuning is None else f"tune/{strategy}"
    planner.distill(name, {**runs.arms[strategy], **overrides}, teacher, sweep)


def _length(budget: BudgetConfig, strategy: str) -> dict[str, Any]:
    if strategy == "ce":
        return {"training.steps": budget.steps}
    return {
        "training.steps": budget.steps,
        "supervision.interval": budget.interval,
        "supervision.speed": budget.speed,
        "supervision.first_steps": budget.first_steps,
    }
