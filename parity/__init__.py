"""Sparse parity (paper section 3): data, probe, presets and stages."""
