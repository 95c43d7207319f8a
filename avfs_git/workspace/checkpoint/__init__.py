"""Checkpoints: objects to one pack, the branch to a new commit, and file changes recorded as operations.

A checkpoint is acknowledged when its pack and its refs are on disk. `capture` below reads the layers.
"""
