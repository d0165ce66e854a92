"""`python -m mlm.next_token.distill`: students under a schedule, from a teacher's trajectory."""

from common.experiment.commands import command
from mlm.next_token.spec import SPEC

main = command(SPEC, "distill", __name__)
