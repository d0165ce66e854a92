"""Where teachers' plateaus lie beside the best models that see few tokens, read from run files."""

from collections.abc import Sequence
from pathlib import Path

from common.base.reading import read_object
from common.judge.transition import NoTransition, Transition
from common.runs.directory import RunDirectory
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


def above(home: Path, phases: Sequence[Transition | NoTransition], least: float) -> list[float]:
    """How far each teacher's loss at the end of its plateau lies above the least that some model
    can reach, nats; those without a plateau have none.

    The one is of a sample of sentences, the other of all.
    """
    loss_of = {row["step"]: row["eval_loss"] for row in RunDirectory(home / TEACHER).metrics()}
    return [
        loss_of[phase.start][lane] - least
        for lane, phase in enumerate(phases)
        if isinstance(phase, Transition)
    ]
