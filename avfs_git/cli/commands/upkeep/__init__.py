"""Upkeep: hooks, checks, space."""
