"""Files of a workspace changed to those of another state: restore, advance, and recovery after a crash.

Called by undo, merges and the SDK. What is not saved is saved before it is replaced. A plan runs under an intent on
disk, which the next process completes.
"""
