"""Timings beside a plain PyTorch implementation of the same step. The sides take turns, because
shared machines are noisy, each in a process of its own, because libraries slow each other."""
