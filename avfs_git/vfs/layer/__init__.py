"""What a workspace is on disk: the upper layer with its marks, the lower layer of a commit, and the sidecar format.

Called by `vfs.tree` and `vfs.scan`. Marks are spelled as overlayfs spells them, so that the kernel can mount an upper layer.
"""
