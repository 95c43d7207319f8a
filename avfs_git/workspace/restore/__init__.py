"""Files of a workspace changed by avfs: restore, single file operations, transfer, and recovery after a crash.

Called by undo, merges and the SDK. What is not saved is saved before it is replaced. A plan runs under an intent on disk, which
the next process completes.
"""
