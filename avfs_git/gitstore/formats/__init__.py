"""The formats of git's files, bytes in and values out: trees, commits, packs, deltas, packed refs, the index.

Nothing here opens a repository. Each parser has bounds on memory and refuses hostile bytes with `ObjectCorrupt`,
`BadPack` or `BadIndex`; each module names the description of its format.
"""
