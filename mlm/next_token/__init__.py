"""Prediction of the next token of real text by GPT-2 and GPT-NeoX: what public suites of
checkpoints have learnt. It has runs, probes and students, and no experiment of its own."""
