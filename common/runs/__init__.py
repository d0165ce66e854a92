"""Run directories, their trajectories, and what is made from them."""
