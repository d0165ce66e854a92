"""`python -m pcfg.next_token.claims`: judge the claims of a preset from its run files."""

from common.experiment.commands import command
from pcfg.next_token.spec import SPEC

main = command(SPEC, "claims", __name__)
