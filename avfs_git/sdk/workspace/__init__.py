"""The parts of `Workspace`: its files, looking through them, its states, merging, commands; and its mounts.

`sdk.vault` puts them together.
"""
