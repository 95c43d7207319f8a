"""A workspace as a live tree: the Linux kernel's FUSE protocol over `vfs`.

    protocol   requests and replies as the kernel lays them out
    channel    the conversation on `/dev/fuse`: mounting, negotiation, receiving, replying, notifying
    listing    directories as a program reads them piece by piece
    server     each request as a call of the merged tree
    errnos     what a program in the tree is told about a failure

It stands beside `workspace`: it knows merged trees, not vaults, forks or checkpoints.
"""
