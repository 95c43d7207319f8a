"""What a workspace shows: nodes, reading, copy-up, making, renaming and removing, over the two layers.

Called by `fuse` by node, and by `workspace` by path. Raises OSError with an errno, because it is a filesystem. One lock a tree.
"""
