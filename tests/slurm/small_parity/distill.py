"""`python -m small_parity.distill`."""

from common.experiment.commands import command
from small_parity.spec import SPEC

main = command(SPEC, "distill", __name__)
