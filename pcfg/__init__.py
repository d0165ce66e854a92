"""Masked prediction on sentences of probabilistic context-free grammars."""
