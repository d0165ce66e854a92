"""`python -m small_parity.claims`."""

from common.experiment.commands import command
from small_parity.spec import SPEC

main = command(SPEC, "claims", __name__)
