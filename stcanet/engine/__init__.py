"""Training: the loop and its parts, checkpoints, and the run folder."""
