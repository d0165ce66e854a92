"""`python -m toy.experiment`."""

from common.experiment.commands import command
from toy.spec import SPEC

main = command(SPEC, "experiment", __name__)
