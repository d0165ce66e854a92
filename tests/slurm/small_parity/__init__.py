"""Sparse parity with as few stages as Slurm is to be tried with."""
