"""`python -m pcfg.next_token.distill`: students under a schedule, from a teacher's trajectory."""

from common.experiment.commands import command
from pcfg.next_token.spec import SPEC

main = command(SPEC, "distill", __name__)
