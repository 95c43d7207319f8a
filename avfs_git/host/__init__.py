"""What is asked of the operating system; knows nothing of git.

    files        durable writes, walks beneath a descriptor, extended attributes, ranges, modes, removal
    locks        lock files that name their holder, locks of names
    mounts       FUSE and overlayfs, the table of mounts
    lockedplace  temporary directories that go with their process, or after it
    fanotify     which programs open one file; reads and writes in a mount; changes of a file system
    processes    peers, users of a mount, inherited descriptors, the process above a command

Every package above calls these; they call nothing of avfs but `errors` and `faults`. What the system refuses is an
`OSError`, or a `HostError` where the function names what it was doing; docstrings name only what else is raised.
"""
