"""`python -m pcfg.next_token.train`: a teacher (or any model) on the next tokens of sentences."""

from common.experiment.commands import command
from pcfg.next_token.spec import SPEC

main = command(SPEC, "train", __name__)
