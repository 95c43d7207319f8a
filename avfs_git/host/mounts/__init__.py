"""Mounts: FUSE and overlayfs, and what is mounted where."""
