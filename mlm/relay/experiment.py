"""`python -m mlm.relay.experiment`: every stage of a preset, in order."""

from common.experiment.commands import command
from mlm.relay.spec import SPEC

main = command(SPEC, "experiment", __name__)
