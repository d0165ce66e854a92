"""What all experiments share: configuration, the training loop, trajectories, run directories, statistics."""
