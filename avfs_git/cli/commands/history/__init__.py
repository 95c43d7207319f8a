"""Checkpoints and history: saving, comparing, going back."""
