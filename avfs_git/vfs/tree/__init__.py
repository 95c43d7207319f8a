"""What a workspace shows: a filesystem over two layers. `merged.MergedTree` is the tree, and lists its parts.

`fuse` calls it by node, `workspace` by path. It raises OSError with an errno, because it is a filesystem. One lock a
tree. `steps.Steps` is what differs between a workspace, a directory that the kernel's overlayfs shows, and a commit.
"""
