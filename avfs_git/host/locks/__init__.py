"""Locks between processes: of workspaces, which name their holder, of names, of open files.

The kernel frees them at a death.
"""
