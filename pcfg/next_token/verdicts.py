"""The claims about prediction of the next token, judged from run files by criteria fixed
beforehand. Reads metrics and probe tables; loads no model."""

from collections.abc import Mapping
from pathlib import Path

from common.experiment.spec import Judgement
from common.judge.verdict import Claim
from pcfg.next_token.presets import Experiment

CLAIMS: Mapping[str, Claim] = {}


def judge(home: Path, experiment: Experiment) -> Judgement:
    """All claims on the runs of an experiment."""
    return Judgement([], {})
