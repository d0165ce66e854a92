"""Timings beside a plain PyTorch implementation of the same step; both sides in one run, because
shared machines are noisy."""
