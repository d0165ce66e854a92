"""`python -m mlm.train`: a model of masked text: the teacher, or a reference."""

from common.experiment.commands import command
from mlm.spec import SPEC

main = command(SPEC, "train", __name__)
