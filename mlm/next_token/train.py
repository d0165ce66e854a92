"""`python -m mlm.next_token.train`: a model of the next tokens of text: the teacher."""

from common.experiment.commands import command
from mlm.next_token.spec import SPEC

main = command(SPEC, "train", __name__)
