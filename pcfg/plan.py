"""The stages of a PCFG experiment.

runs/pcfg/<preset>/tune/...       sweeps over the students' learning rates, on seeds of their own
runs/pcfg/<preset>/teacher        the teacher's trajectory, its probes, the exact reference
runs/pcfg/<preset>/student/...    one run for each strategy, and the probe of its non-terminals
runs/pcfg/<preset>/budget/...     the same for runs of other lengths
runs/pcfg/<preset>/heads/...      the same, of all lengths, for students of other sizes
runs/pcfg/<preset>/first/...      two-shot students of other first checkpoints
runs/pcfg/<preset>/claims.json    the claims, judged
"""

from typing import Any

from common.base.config import Overrides
from common.experiment.plan import Planner
from common.runs.tuning import SweepConfig
from common.train.schedule import ScheduleName
from pcfg import ceiling, nonterminal, probe
from pcfg.presets import STRATEGIES, BudgetConfig, Experiment, WindowConfig

TEACHER, TUNED_TEACHER = "teacher", "tune/teacher"


def plan_paper(planner: Planner, experiment: Experiment) -> None:
    """Sweeps, teacher, probes, students."""
    if experiment.tuning is not None:
        _tune(planner, experiment.tuning)
    planner.train(TEACHER, {})
    every = {"every": experiment.probe_every}
    planner.probe("ngrams", probe.PROBE, TEACHER, {**_windows(experiment.probe), **every})
    planner.probe("ceiling", ceiling.PROBE, TEACHER, _windows(experiment.exact))
    _nonterminals(planner, experiment, "nonterminals", TEACHER, experiment.nonterminal.every)
    for strategy in STRATEGIES:
        _student(planner, experiment, student(strategy), strategy)
        _nonterminals(planner, experiment, f"nonterminals-{strategy}", student(strategy), 0)
    for offset in experiment.first.offsets:
        earlier_or_later = {"supervision.offset": offset}
        _student(planner, experiment, first_run(offset), "two-shot", earlier_or_later)
    for name, strategy, heads, budget in further_students(experiment):
        size = {} if heads is None else {"model.heads": heads}
        length = {} if budget is None else _length(budget, strategy)
        _student(planner, experiment, name, strategy, {**size, **length})


def student(strategy: str, budget: BudgetConfig | None = None, heads: int | None = None) -> str:
    """The run of a strategy, of the student's own length and size or of others."""
    length = "student" if budget is None else f"budget/{budget.steps}"
    return f"{length}/{strategy}" if heads is None else f"heads/{heads}/{length}/{strategy}"


def further_students(
    experiment: Experiment,
) -> list[tuple[str, ScheduleName, int | None, BudgetConfig | None]]:
    """Name, strategy, heads and budget of every student of another length or size (None: the
    student's own)."""
    kinds = [
        (heads, budget)
        for heads in (None, *experiment.heads)
        for budget in (None, *experiment.budgets)
    ]
    return [
        (student(strategy, budget, heads), strategy, heads, budget)
        for heads, budget in kinds[1:]
        for strategy in STRATEGIES
    ]


def first_run(offset: int) -> str:
    """The run of the two-shot students of one first checkpoint."""
    return student("two-shot") if offset == 0 else f"first/at{offset:+d}"


def _tune(planner: Planner, tuning: SweepConfig) -> None:
    """One teacher for all students, who see the same sentences: it answers once for the sweep."""
    one_seed = {"training.seed": tuning.seed, "training.num_seeds": 1}
    planner.train(TUNED_TEACHER, one_seed)
    for strategy in STRATEGIES:
        overrides: dict[str, Any] = {
            "schedule": strategy,
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
    planner: Planner,
    experiment: Experiment,
    name: str,
    strategy: ScheduleName,
    overrides: Overrides | None = None,
) -> None:
    teacher = None if strategy == "ce" else TEACHER
    sweep = None if experiment.tuning is None else f"tune/{strategy}"
    planner.distill(name, {"schedule": strategy, **(overrides or {})}, teacher, sweep)


def _nonterminals(
    planner: Planner, experiment: Experiment, name: str, run: str, every: int
) -> None:
    ancestors = experiment.nonterminal
    sizes = {"num_train": ancestors.num_train, "num_eval": ancestors.num_eval}
    planner.probe(name, nonterminal.PROBE, run, {"every": every, **sizes})


def _length(budget: BudgetConfig, strategy: str) -> dict[str, Any]:
    if strategy == "ce":
        return {"training.steps": budget.steps}
    return {
        "training.steps": budget.steps,
        "supervision.interval": budget.interval,
        "supervision.speed": budget.speed,
        "supervision.first_steps": budget.first_steps,
    }


def _windows(windows: WindowConfig) -> dict[str, Any]:
    return {
        "spacing": windows.spacing,
        "num_sentences": windows.num_sentences,
        "sizes": windows.sizes,
    }
