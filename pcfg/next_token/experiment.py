"""`python -m pcfg.next_token.experiment`: every stage of a preset, in order."""

from common.experiment.commands import command
from pcfg.next_token.spec import SPEC

main = command(SPEC, "experiment", __name__)
