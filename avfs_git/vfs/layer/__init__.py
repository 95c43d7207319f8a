"""What a workspace is on disk: the upper layer and its marks, the lower layer, the sidecar format, a mounted directory.

Called by `vfs.tree` and `vfs.scan`. Marks are spelled as overlayfs spells them, so that the kernel can mount an upper
layer.
"""
