"""Merging, updating and rewriting forks; conflicts as values; comparing forks before a merge.

Called by the SDK. A merge is made in memory first; files and branch then move together.
"""
