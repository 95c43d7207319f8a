"""The process behind a mount: how it starts, what it shows, and what serves it (FUSE, overlayfs, libfuse).

`start` is the caller's side; the rest runs in the session's own process. `process` has the order of its steps.
"""
