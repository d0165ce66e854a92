"""`python -m small_parity.experiment`."""

from common.experiment.commands import command
from small_parity.spec import SPEC

main = command(SPEC, "experiment", __name__)
