"""The claims about text, judged from run files by criteria fixed beforehand."""

from pathlib import Path

from common.experiment.spec import Judgement
from common.judge.verdict import Claim
from mlm.presets import Experiment
from mlm.references import REFERENCES, reference_table

CLAIMS: dict[str, Claim] = {}


def judge(home: Path, experiment: Experiment) -> Judgement:
    """All claims on the runs of an experiment."""
    return Judgement([], {REFERENCES: reference_table(home, experiment)})
