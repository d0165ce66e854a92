"""How many steps a run takes between two looks at its signals and its clock: some ten seconds' work
at the most.

The number may not depend on a clock, or a run that was killed would not pass through the same
compiled chunks when it goes on. It is derived from the configuration, for a slow processor, and
written into the run's manifest when the run begins.
"""

import math

import jax

from common.base.config import TrainingConfig
from common.train.problem import Problem

CHUNK_STEPS = "chunk_steps"
"""Its name in the manifest."""
MAX_OPERATIONS = 4e11
"""Of floating point, all lanes together: two slow cores do some 2e10 to 4e10 a second."""
TIMES_ON_ACCELERATORS = 100
"""So many times as much on a GPU or TPU, where each length of a chunk is compiled for itself."""
MAX_LAYER_STEPS = 10_000
"""Steps times hidden layers: however small its arrays are, a layer takes a processor up to a
millisecond a step."""
BLOCK = 32
"""Chunks are multiples of this, so that the blocks of `parity.blocked` stay whole."""


def chunk_steps(problem: Problem, training: TrainingConfig, group_size: int) -> int:
    """Steps between two looks, as even a division of the steps between two evaluations as can be.

    Args:
        problem: what is trained.
        training: batch and evaluation grid.
        group_size: lanes that ask their teacher together.
    """
    of_example = len(problem.lanes) * (problem.work.flops + problem.work.teacher_flops / group_size)
    times = 1 if jax.default_backend() == "cpu" else TIMES_ON_ACCELERATORS
    most = min(
        times * MAX_OPERATIONS / max(training.batch_size * of_example, 1.0),
        times * MAX_LAYER_STEPS / problem.model.num_layers,
    )
    num_chunks = math.ceil(training.eval_every / max(most, 1.0))
    steps = math.ceil(training.eval_every / num_chunks)
    return math.ceil(steps / BLOCK) * BLOCK if steps > BLOCK else steps
