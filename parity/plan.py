"""The stages of a parity experiment.

    runs/parity/<preset>/tune/...       sweeps over learning rates, on seeds of their own
    runs/parity/<preset>/teacher        the teacher's trajectory, and its probes
    runs/parity/<preset>/student/...    one run for each supervision strategy, and on labels for
                                        each size of the model
    runs/parity/<preset>/claims.json    the claims, judged

What the paper does not have, as far as the preset does:

    runs/parity/<preset>/tree           the teacher's model on hierarchical parity
    runs/parity/<preset>/equivalence/.. labels, one-shot and its teacher on many seeds
    runs/parity/<preset>/first/...      two-shot students, one run for each first checkpoint
    runs/parity/<preset>/teacher-<seed> further teachers, and their probes
    runs/parity/<preset>/beyond.json    the claims on these, judged
"""

from typing import Any

from common.base.config import Overrides
from common.base.size import Size
from common.experiment.plan import Planner
from common.runs.tuning import SWEEP_STOP_AFTER
from parity.first_checkpoints import first_run, replica_name
from parity.leak import PROBE as LEAK
from parity.presets import EquivalenceConfig, Experiment, FirstCheckpointConfig
from parity.probe import PROBE

# One teacher that has not learnt must not end an experiment of many: its final checkpoint then
# teaches alone, and its student is counted.
TWO_SHOT = {"schedule": "two-shot", "supervision.without_transition": "final"}
STRATEGIES: dict[str, Overrides] = {
    "one-shot": {"schedule": "one-shot"},
    "one-shot-soft": {"schedule": "one-shot", "loss.labels": "soft"},
    "progressive": {"schedule": "progressive"},
    "two-shot": {**TWO_SHOT, "supervision.candidate": "during"},
    "two-shot-before": {**TWO_SHOT, "supervision.candidate": "before"},
    "two-shot-after": {**TWO_SHOT, "supervision.candidate": "after"},
    "projections": {"schedule": "projections"},
}
TREE, TEACHER = "tree", "teacher"
OTHER_TEACHER, OTHER_LABELS, OTHER_ONE_SHOT = (
    f"equivalence/{name}" for name in ("teacher", "ce", "one-shot-soft")
)
TUNED_TEACHER, TEACHER_RATE = "tune/teacher", "tune/teacher-rate"


def plan_paper(planner: Planner, experiment: Experiment) -> None:
    """Sweeps, teacher, probe, students."""
    if experiment.tuning is not None:
        _tune(planner, experiment)
    planner.train(TEACHER, {}, _teacher_sweep(experiment))
    _probe(planner, experiment, TEACHER)
    for size in experiment.label_budgets:
        if size != experiment.teacher.model.size:
            sweep = _sweep(experiment, f"ce-{size.tag}")
            planner.distill(f"student/ce-{size.tag}", _labels(experiment, size), tuned_by=sweep)
    for strategy, supervision in strategies_of(experiment).items():
        overrides = {**supervision, **_budget(experiment, strategy)}
        sweep = _sweep(experiment, strategy)
        planner.distill(f"student/{strategy}", overrides, TEACHER, sweep)


def plan_beyond(planner: Planner, experiment: Experiment) -> None:
    """Hierarchical parity, many seeds of labels and one-shot, first checkpoints, further
    teachers."""
    tree = experiment.tree
    if tree is not None:
        of_tree = {
            "data.k": tree.k,
            "data.depth": tree.depth,
            "training.steps": tree.steps,
            "training.eval_every": tree.eval_every,
            "training.checkpoint_every": 0,
        }
        planner.train(TREE, of_tree)
    if experiment.equivalence is not None:
        _equivalence(planner, experiment, experiment.equivalence)
    if experiment.first is None:
        return
    _first_checkpoints(planner, experiment, TEACHER, experiment.first, {})
    for replica in experiment.replicas:
        name = replica_name(replica)
        of_replica = {
            "training.seed": replica.seed,
            "training.steps": replica.steps,
            "training.stop_after": replica.stop_after,
        }
        planner.train(name, of_replica)
        _probe(planner, experiment, name)
        taught_by = {"teacher_seed": replica.seed}
        _first_checkpoints(planner, experiment, name, experiment.first, taught_by)


def strategies_of(experiment: Experiment) -> dict[str, Overrides]:
    """Where soft labels are the experiment's own, one-shot has them already."""
    is_soft = experiment.student.loss.labels == "soft"
    return {
        strategy: overrides
        for strategy, overrides in STRATEGIES.items()
        if not (is_soft and strategy == "one-shot-soft")
    }


def _tune(planner: Planner, experiment: Experiment) -> None:
    tuning = experiment.tuning
    assert tuning is not None
    seeds = {"training.seed": tuning.seed, "training.num_seeds": tuning.num_seeds}
    sweep: dict[str, Any] = {
        "optim.learning_rate": tuning.learning_rate,
        **seeds,
        "training.stop_after": SWEEP_STOP_AFTER,
    }
    for size in experiment.label_budgets:
        planner.distill(f"tune/ce-{size.tag}", {**_labels(experiment, size), **sweep})
    if tuning.teacher and experiment.teacher.model.size not in experiment.label_budgets:
        planner.train(TEACHER_RATE, {"training.checkpoint_every": 0, **sweep})
    planner.train(TUNED_TEACHER, seeds, _teacher_sweep(experiment))
    for strategy, supervision in strategies_of(experiment).items():
        overrides = {**supervision, **_budget(experiment, strategy), **sweep}
        planner.distill(f"tune/{strategy}", overrides, TUNED_TEACHER)


def _equivalence(planner: Planner, experiment: Experiment, equivalence: EquivalenceConfig) -> None:
    """Labels, and one-shot distillation by the final teacher's soft labels, at tuned rates."""
    own = {"training.seed": equivalence.seed, "training.num_seeds": equivalence.num_seeds}
    planner.train(OTHER_TEACHER, own, _teacher_sweep(experiment))
    size = experiment.student.model.size
    labels = {**_labels(experiment, size), **own}
    planner.distill(OTHER_LABELS, labels, tuned_by=_sweep(experiment, f"ce-{size.tag}"))
    strategy = soft_one_shot(experiment)
    one_shot = {**STRATEGIES[strategy], **_budget(experiment, strategy), **own}
    planner.distill(OTHER_ONE_SHOT, one_shot, OTHER_TEACHER, _sweep(experiment, strategy))


def soft_one_shot(experiment: Experiment) -> str:
    """The strategy that learns the final teacher's soft labels."""
    soft = "one-shot-soft"
    return soft if soft in strategies_of(experiment) else "one-shot"


def _first_checkpoints(
    planner: Planner,
    experiment: Experiment,
    teacher: str,
    first: FirstCheckpointConfig,
    taught_by: Overrides,
) -> None:
    budget = {
        "training.steps": first.steps,
        "training.eval_every": first.eval_every,
        "training.num_seeds": first.num_seeds,
        "supervision.first_steps": first.first_steps,
    }
    for offset in first.offsets:
        overrides = {**TWO_SHOT, "supervision.offset": offset, **budget, **taught_by}
        sweep = _sweep(experiment, "two-shot")
        planner.distill(first_run(teacher, offset), overrides, teacher, sweep)


def _probe(planner: Planner, experiment: Experiment, teacher: str) -> None:
    suffix = "" if teacher == TEACHER else f"-{teacher}"
    planner.probe(f"probe{suffix}", PROBE, teacher, {"num_examples": experiment.probe_examples})
    if experiment.has_disjoint_sets:
        planner.probe(f"leak{suffix}", LEAK, teacher, {})


def _labels(experiment: Experiment, size: Size) -> dict[str, Any]:
    return {
        "schedule": "ce",
        f"model.{size.name}": size.value,
        "training.steps": experiment.label_budgets[size],
    }


def _budget(experiment: Experiment, strategy: str) -> dict[str, Any]:
    """The student's own budget is that of progressive."""
    if strategy == "progressive":
        return {}
    steps = experiment.short_steps
    if strategy.startswith("one-shot"):
        steps = experiment.label_steps
    return {} if steps is None else {"training.steps": steps}


def _sweep(experiment: Experiment, name: str) -> str | None:
    """The sweep that chooses a rate, where rates are chosen."""
    return None if experiment.tuning is None else f"tune/{name}"


def _teacher_sweep(experiment: Experiment) -> str | None:
    if experiment.tuning is None or not experiment.tuning.teacher:
        return None
    size = experiment.teacher.model.size
    return f"tune/ce-{size.tag}" if size in experiment.label_budgets else TEACHER_RATE
