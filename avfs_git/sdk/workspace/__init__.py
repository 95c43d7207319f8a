"""The parts of `Workspace`: its files, its states, merging, commands; and its mounts. `sdk.vault` puts them together."""
