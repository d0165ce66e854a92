"""`python -m parity.train`: a teacher (or any model) on the labels of sparse parity."""

from common.experiment.commands import command
from parity.spec import SPEC

main = command(SPEC, "train", __name__)
