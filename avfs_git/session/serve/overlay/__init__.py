"""Sessions on kernel overlayfs: mount and server (`tree`), file events (`events`, `upperchanges`), `gitwatch`.

`process` calls `tree`. Programs in the tree wait for no server of avfs, except a git whose index is behind. The mount
outlives its session, and another session adopts it.
"""
