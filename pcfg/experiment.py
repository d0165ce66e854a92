"""`python -m pcfg.experiment`: every stage of a preset, in order."""

from common.experiment.commands import command
from pcfg.spec import SPEC

main = command(SPEC, "experiment", __name__)
