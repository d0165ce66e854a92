"""The stages of an experiment on text: those of every experiment on tokens
(`common.experiment.students`), before them its corpus, and between them its probes and references.

corpora/sample                      the corpus, where it is one that the experiment prepares itself
runs/mlm/<preset>/teacher           the teacher's trajectory, and its probes
runs/mlm/<preset>/reference/...     models that see less of a row: a bag of words, windows
runs/mlm/<preset>/student/...       one run for each arm, and its probe
runs/mlm/<preset>/claims.json       the claims, judged
"""

from common.experiment.plan import Planner
from common.experiment.students import (
    plan_choice,
    plan_further_students,
    plan_strategy,
    plan_teacher,
)
from common.sequence.students import TEACHER, student
from mlm import probe, unigram
from mlm.corpus import MANIFEST
from mlm.prepare.__main__ import main as prepare
from mlm.presets import Experiment, ReferenceConfig
from mlm.references import BAG_RUN, overrides_of, window_run
from mlm.vocabulary import MODULE


def plan_paper(planner: Planner, experiment: Experiment) -> None:
    """Corpus, sweeps, teacher, its probes, references, students."""
    if experiment.sources is not None:
        corpus = experiment.teacher.data.corpus
        words = (MODULE, *experiment.sources, "--out", str(corpus))
        planner.prepare("corpus", words, prepare, corpus / MANIFEST)
    plan_teacher(planner, experiment)
    every = {"every": experiment.probe_every}
    planner.probe("ngrams", probe.PROBE, TEACHER, {**experiment.probe.overrides, **every})
    planner.probe("unigram", unigram.PROBE, TEACHER, {})
    if experiment.references is not None:
        plan_references(planner, experiment.references)
    plan_choice(planner, experiment)
    for arm in experiment.arms:
        plan_strategy(planner, experiment, arm)
        if experiment.probes_students:
            planner.probe(f"ngrams-{arm}", probe.PROBE, student(arm), experiment.probe.overrides)
    plan_further_students(planner, experiment)


def plan_references(planner: Planner, references: ReferenceConfig) -> None:
    """A bag of words, and windows."""
    overrides = overrides_of(references)
    planner.train(BAG_RUN, {**overrides, "model.ordered": False})
    for n in references.windows:
        planner.train(window_run(n), {**overrides, "model.window": n})
