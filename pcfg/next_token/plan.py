"""The stages of an experiment on next tokens: those of every experiment on tokens
(`common.experiment.students`), and between them its probes."""

from common.experiment.plan import Planner
from common.experiment.students import plan_further_students, plan_strategy, plan_teacher
from pcfg.next_token.presets import Experiment


def plan_paper(planner: Planner, experiment: Experiment) -> None:
    """Sweeps, teacher, probes, students."""
    plan_teacher(planner, experiment)
    for strategy in experiment.arms:
        plan_strategy(planner, experiment, strategy)
    plan_further_students(planner, experiment)
