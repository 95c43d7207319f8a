"""Changing files of a workspace, and copying them in and out."""
