"""The stages of an experiment on tokens that are the same whatever the tokens are of.

HOME/tune/...       sweeps over the students' learning rates, on seeds of their own
HOME/teacher        the teacher's trajectory
HOME/student/...    one run for each strategy
HOME/budget/...     the same for runs of other lengths
HOME/heads/...      the same, of all lengths, for students of other sizes
HOME/first/...      two-shot students of other first checkpoints
HOME/choose/...     the same under the tuned teacher, where the best is chosen on other seeds

An experiment plans its probes and further stages between these.
"""

import itertools
from typing import Any

from common.base.config import Overrides
from common.experiment.plan import Planner
from common.runs.tuning import SweepConfig
from common.sequence.students import (
    C1,
    TEACHER,
    TUNED_TEACHER,
    BudgetConfig,
    StudentRuns,
    chosen_run,
    first_run,
    further_students,
    student,
    sweep,
)


def plan_teacher(planner: Planner, runs: StudentRuns) -> None:
    """The sweeps over the students' rates, where there are any, and the teacher."""
    if runs.tuning is not None:
        _tune(planner, runs, runs.tuning)
    planner.train(TEACHER, {})


def plan_choice(planner: Planner, runs: StudentRuns) -> None:
    """Two-shot students of every first checkpoint under the teacher of the sweeps, on the sweeps'
    seeds: by them the best one is chosen. None where there are no sweeps."""
    if runs.tuning is None:
        return
    for first in runs.first.firsts:
        overrides = {
            **runs.arms["two-shot"],
            **_tuning_seeds(runs.tuning),
            "teacher_seed": runs.tuning.seed,
            **first.overrides,
        }
        planner.distill(chosen_run(first), overrides, TUNED_TEACHER, sweep("two-shot"))


def plan_strategy(planner: Planner, runs: StudentRuns, strategy: str) -> None:
    """The students of one strategy, of their own length and size."""
    _student(planner, runs, student(strategy), strategy, {}, sweep(strategy))


def plan_further_students(planner: Planner, runs: StudentRuns) -> None:
    """Those of further first checkpoints, then those of further lengths and sizes."""
    for first in runs.first.firsts:
        if first != C1:
            name = first_run(first)
            _student(planner, runs, name, "two-shot", first.overrides, sweep("two-shot"))
    for name, strategy, heads, budget in further_students(runs):
        size = {} if heads is None else {"model.heads": heads}
        length = {} if budget is None else _length(budget, strategy)
        tuned_by = sweep(strategy, budget if runs.tunes_lengths else None)
        _student(planner, runs, name, strategy, {**size, **length}, tuned_by)


def _tune(planner: Planner, runs: StudentRuns, tuning: SweepConfig) -> None:
    """One teacher for all students, who see the same examples: it answers once for the sweep."""
    one_seed = {"training.seed": tuning.seed, "training.num_seeds": 1}
    planner.train(TUNED_TEACHER, one_seed)
    sweeps: list[tuple[str, BudgetConfig | None]] = [(arm, None) for arm in runs.arms]
    if runs.tunes_lengths:
        sweeps += itertools.product(runs.lengthened, runs.budgets)
    for strategy, budget in sweeps:
        overrides: dict[str, Any] = {
            **runs.arms[strategy],
            **({} if budget is None else _length(budget, strategy)),
            "optim.learning_rate": tuning.learning_rate,
            **_tuning_seeds(tuning),
        }
        teacher = None
        if strategy != "ce":
            teacher = TUNED_TEACHER
            overrides["teacher_seed"] = tuning.seed
        planner.distill(sweep(strategy, budget), overrides, teacher)


def _tuning_seeds(tuning: SweepConfig) -> dict[str, Any]:
    """Seeds of students who see the same examples, and none that is reported."""
    return {
        "training.seed": tuning.seed,
        "training.num_seeds": tuning.num_seeds,
        "shared_stream": True,
    }


def _student(
    planner: Planner,
    runs: StudentRuns,
    name: str,
    strategy: str,
    overrides: Overrides,
    tuned_by: str,
) -> None:
    teacher = None if strategy == "ce" else TEACHER
    chooses_rate = None if runs.tuning is None else tuned_by
    planner.distill(name, {**runs.arms[strategy], **overrides}, teacher, chooses_rate)


def _length(budget: BudgetConfig, strategy: str) -> dict[str, Any]:
    if strategy == "ce":
        return {"training.steps": budget.steps}
    return {
        "training.steps": budget.steps,
        "supervision.interval": budget.interval,
        "supervision.speed": budget.speed,
        "supervision.first_steps": budget.first_steps,
    }
