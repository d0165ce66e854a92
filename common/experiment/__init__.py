"""Experiments as lists of stages."""
