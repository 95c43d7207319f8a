"""The formats of git's files, as bytes in and values out: trees, commits, packs, deltas, the index, the commit-graph.

Nothing here opens a repository or keeps state. Called by `gitstore.objects`, `gitstore.compare` and whoever reads a tree. Each
parser refuses hostile bytes with a typed error and has bounds; sources of the formats stand in each module.
"""
