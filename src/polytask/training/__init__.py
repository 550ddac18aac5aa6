"""Training: the loop, the optimizer, checkpoints, several processes, events."""
