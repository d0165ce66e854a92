"""Masked prediction on text."""
