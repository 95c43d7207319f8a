"""Refs of a repository: reading and moving them (`refs`), their locks (`locks`), packing into one file (`packing`).

Called by `workspace`, which logs each move before it is made, and by `gitstore.remote`. A move compares first, and is
on disk when it returns. Git and other processes of avfs may move refs at the same time. A killed process leaves no lock
for people to remove.
"""
