"""`python -m mlm.distill`: students under a schedule, from a teacher's trajectory."""

from common.experiment.commands import command
from mlm.spec import SPEC

main = command(SPEC, "distill", __name__)
