"""Mounts: FUSE and overlayfs, and what is mounted where.

A refused mount is a `MountError` with the errno in its details.
"""
