"""`python -m toy.train`."""

from common.experiment.commands import command
from toy.spec import SPEC

main = command(SPEC, "train", __name__)
