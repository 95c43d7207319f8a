"""Merging: forks, single checkpoints, and conflicts."""
