"""What is asked of the operating system; knows nothing of git.

    durable    files that are there, whole, after a power cut
    beneath    files below a directory that no symbolic link leads out of
    xattrs     extended attributes, bytes in and out

Everything above calls these; they call nothing of avfs but `errors` and `faults`.
"""
