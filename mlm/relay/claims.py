"""`python -m mlm.relay.claims`: judge the claims of a preset from its run files."""

from common.experiment.commands import command
from mlm.relay.spec import SPEC

main = command(SPEC, "claims", __name__)
