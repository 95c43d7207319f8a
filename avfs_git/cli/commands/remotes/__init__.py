"""Remotes: other repositories, and the directory that a vault was made from."""
