"""Structure and motion of simulated matter, from trajectories."""
