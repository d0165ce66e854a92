"""`python -m toy.distill`."""

from common.experiment.commands import command
from toy.spec import SPEC

main = command(SPEC, "distill", __name__)
