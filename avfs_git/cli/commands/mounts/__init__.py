"""Mounts: a workspace as a directory, who uses it, and taking it away."""
