"""The formats of git's files, bytes in and values out: trees, commits, packs, deltas, packed refs, the index.

Nothing here opens a repository. Each parser refuses hostile bytes with a typed error and has bounds on memory; each module names
the description of its format.
"""
