"""`python -m mlm.relay.train`: a classifier of sentences, taught by labels."""

from common.experiment.commands import command
from mlm.relay.spec import SPEC

main = command(SPEC, "train", __name__)
