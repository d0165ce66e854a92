"""What all experiments share: configuration, the training loop, trajectories, run directories,
statistics."""

from common.base.environment import import_jax

import_jax()
