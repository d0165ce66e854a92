"""Where teachers' plateaus lie beside the best models that see few tokens, read from run files."""

from pathlib import Path

from common.base.reading import read_object
from common.runs.probing import FOLDER
from common.sequence.students import TEACHER
from pcfg import ceiling


def best_losses(home: Path, plateaus: str) -> dict[int, float]:
    """The loss of the best model of n tokens, nats, by n, as far as it was computed.

    Args:
        home: the folder of an experiment's runs.
        plateaus: one of `pcfg.ceiling.PLATEAUS`: whether it knows its position in the sentence.

    Raises:
        UserError: the exact reference of the teacher is missing.
    """
    path = home / TEACHER / FOLDER / f"{ceiling.NAME}.json"
    of_size = read_object(path, (plateaus,), "the command of the exact reference")[plateaus]
    return {int(n): optimum["cross_entropy"] for n, optimum in of_size.items()}
