"""`python -m pcfg.train`: a teacher (or any model) on masked sentences of a grammar."""

from common.experiment.commands import command
from pcfg.spec import SPEC

main = command(SPEC, "train", __name__)
