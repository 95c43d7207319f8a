"""The life of a fork: made from a commit, a directory or a clone; listed; ended into the trash; found there again.

Called by the SDK. Each step happens under the lock of the fork's name.
"""
