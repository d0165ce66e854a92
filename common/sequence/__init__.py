"""From tokens to what is to be predicted, and what a prediction takes from its neighbours."""
