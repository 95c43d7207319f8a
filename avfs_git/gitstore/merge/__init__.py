"""Merging two states into one, in memory: the merge engines, and what a merge gives.

`engine` says what every engine promises; `choose` gives the engine of a vault. `bylibgit2` merges in process: `trees`
decides path by path, over what `treediff` finds changed, `renames` says which files moved, `files` and `lines` have
libgit2 merge contents. `bygit` has the installed git do all of it. `bases` finds the merge bases.

Called by merge, update, pick and rebase. The repository of the commits is not changed: new blobs and trees go to the
sink, and conflicts come back as data.
"""
