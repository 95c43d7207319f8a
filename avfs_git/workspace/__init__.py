"""Vaults, forks and workspaces: saving them, restoring them, and taking it back."""
