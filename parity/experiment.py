"""`python -m parity.experiment`: every stage of a preset, in order."""

from common.experiment.commands import command
from parity.spec import SPEC

main = command(SPEC, "experiment", __name__)
