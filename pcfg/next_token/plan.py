"""The stages of an experiment on next tokens: those of every experiment on tokens
(`common.experiment.students`), and between them its probes.

runs/pcfg.next_token/<preset>/teacher        the teacher's trajectory, its probes, the exact
                                             reference
runs/pcfg.next_token/<preset>/student/...    one run for each arm, and the probe of its
                                             non-terminals
runs/pcfg.next_token/<preset>/claims.json    the claims, judged
"""

from common.experiment.plan import Planner
from common.experiment.students import (
    plan_choice,
    plan_further_students,
    plan_strategy,
    plan_teacher,
)
from common.sequence.students import TEACHER, student
from pcfg.next_token import ceiling, nonterminal, probe
from pcfg.next_token.presets import Experiment


def plan_paper(planner: Planner, experiment: Experiment) -> None:
    """Sweeps, teacher, probes, students."""
    plan_teacher(planner, experiment)
    plan_choice(planner, experiment)
    every = {"every": experiment.probe_every}
    planner.probe("prefixes", probe.PROBE, TEACHER, {**experiment.probe.overrides, **every})
    planner.probe("ceiling", ceiling.PROBE, TEACHER, experiment.exact.overrides)
    _nonterminals(planner, experiment, "nonterminals", TEACHER, experiment.nonterminal.every)
    for arm in experiment.arms:
        plan_strategy(planner, experiment, arm)
        _nonterminals(planner, experiment, f"nonterminals-{arm}", student(arm), 0)
    plan_further_students(planner, experiment)


def _nonterminals(
    planner: Planner, experiment: Experiment, name: str, run: str, every: int
) -> None:
    ancestors = experiment.nonterminal
    sizes = {"num_train": ancestors.num_train, "num_eval": ancestors.num_eval}
    planner.probe(name, nonterminal.PROBE, run, {"every": every, **sizes})
