"""`python -m mlm.relay.distill`: students who classify sentences; they may teach."""

from common.experiment.commands import command
from mlm.relay.spec import SPEC

main = command(SPEC, "distill", __name__)
