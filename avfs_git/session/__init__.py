"""Mounts of workspaces, from start to end: a process for each, its record on disk, and what is asked of it.

    record           what is known of a session on disk, whether it lives, and cleaning up after one that died
    point            the directory of a mount: where it is by default, whether it is fit, what was made for it
    start            starting a session: what the caller does
    nursery_client   what sessions come from, as the caller sees it
    nursery          being that: a process that has imported all they need, and forks them
    process          being one: the process behind a mount, from its first line to its end
    stop             ending one: unmounting, detaching, cutting off

It stands above `workspace` and `fuse` and is the one that joins them. `sdk` calls `start`, `stop` and `record`; nothing
but `start` and a nursery runs `process`.
"""
