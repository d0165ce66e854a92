"""Experiments on tokens: from tokens to what is to be predicted, what a prediction takes from its
neighbours, which students are compared, and what is claimed of them and their teachers."""
