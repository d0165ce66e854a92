"""`python -m toy.claims`."""

from common.experiment.commands import command
from toy.spec import SPEC

main = command(SPEC, "claims", __name__)
