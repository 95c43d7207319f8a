"""Locks between processes: lock files that name their holder, and locks of names. The kernel frees them when a holder dies."""
