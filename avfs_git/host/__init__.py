"""What is asked of the operating system; knows nothing of git.

    durable    files that are there, whole, after a power cut
    beneath    files below a directory that no symbolic link leads out of
    xattrs     extended attributes, bytes in and out
    mounts     FUSE mounts, and what is mounted where
    ranges     the space that a range of a file takes

Everything above calls these; they call nothing of avfs but `errors` and `faults`.
"""
