"""Prediction of the next token of a grammar's sentences by GPT-2."""
