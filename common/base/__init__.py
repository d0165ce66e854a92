"""What every room stands on: configuration, errors and signals, randomness, devices, reading and
printing."""
