"""The stages of an experiment on text.

runs/mlm/<preset>/teacher           the teacher's trajectory, and its probes
runs/mlm/<preset>/reference/...     models that see less of a row: a bag of words, windows
runs/mlm/<preset>/claims.json       the claims, judged
"""

from common.experiment.plan import Planner
from common.sequence.students import TEACHER
from mlm import probe
from mlm.presets import Experiment
from mlm.references import BAG, reference, window_run


def plan_paper(planner: Planner, experiment: Experiment) -> None:
    """Teacher, its probe, and references."""
    planner.train(TEACHER, {})
    windows = {**experiment.probe.overrides, "every": experiment.probe_every}
    planner.probe("ngrams", probe.PROBE, TEACHER, windows)
    of_all = reference(experiment.references)
    planner.train(BAG, {**of_all, "model.ordered": False, "model.positions": None})
    for n in experiment.references.windows:
        planner.train(window_run(n), {**of_all, "model.window": n, "model.positions": None})
