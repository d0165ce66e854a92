"""`python -m small_parity.train`."""

from common.experiment.commands import command
from small_parity.spec import SPEC

main = command(SPEC, "train", __name__)
