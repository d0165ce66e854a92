"""What a batch system is asked for each stage: time, memory and a GPU, by what the stage is
projected to cost (`common.experiment.costs`) on the kind of machine that will carry it out.

The projection is made there, or where jobs are submitted, and kept in a file.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax

from common.base.config import from_dict, to_dict
from common.base.reading import read_object
from common.experiment.costs import Cost
from common.runs.files import write_json

MADE_BY = "an experiment with --dry-run --costs FILE"
FACTOR, FURTHER_MINUTES = 1.5, 10
"""A node may be slower than projected, and starts Python; what is stopped for time goes on."""
FURTHER_MB = 2000
_MB = 2**20


@dataclass(frozen=True)
class Asked:
    """What a job is given."""

    minutes: int = 240
    mem_mb: int = 8000
    gpus: int = 0


NOT_PROJECTED = Asked()
"""For stages that train nothing, like probes, and where there is no projection."""


def write_asked(path: Path, costs: Mapping[Path, Cost]) -> None:
    """Keep what is to be asked for runs of these costs on machines like this one.

    Args:
        path: the file.
        costs: by the stage's output.
    """
    gpus = int(jax.default_backend() == "gpu")
    path.parent.mkdir(parents=True, exist_ok=True)
    asked = {str(output): to_dict(_asked(cost, gpus)) for output, cost in costs.items()}
    write_json(path, {"other": to_dict(Asked(gpus=gpus)), "stages": asked})


def read_asked(path: Path) -> dict[str, Asked]:
    """By the stage's output; "" for all that are not named.

    Raises:
        RunError: the file is damaged.
    """
    values = read_object(path, ("other", "stages"), MADE_BY)
    asked = {"": values["other"], **values["stages"]}
    return {output: from_dict(Asked, one, path) for output, one in asked.items()}


def _asked(cost: Cost, gpus: int) -> Asked:
    """Generously; of a memory of which the least is known, twice that. With a GPU what is projected
    is its memory, not the machine's."""
    minutes = math.ceil(FACTOR * cost.seconds / 60) + FURTHER_MINUTES
    if gpus:
        return Asked(minutes, NOT_PROJECTED.mem_mb, gpus)
    memory = FACTOR * cost.memory * (2 if cost.is_scaled else 1)
    return Asked(minutes, math.ceil(memory / _MB) + FURTHER_MB, gpus)
