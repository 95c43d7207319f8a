"""Vaults and forks: making, choosing, listing and ending them."""
