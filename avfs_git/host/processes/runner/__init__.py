"""The process above a command: the process itself (`runner`, `spawning`, `renames`), and its user's end (`handle`).

Called by `backends` and `proxy.exec`, which import `handle` alone. When the user is done or dies, everything that the
command has started ends, with its mounts. The process imports nothing of avfs.
"""
