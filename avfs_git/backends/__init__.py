"""Ways to show a workspace to a command: `checkout`, `fuse` and `overlay`, of which `choose` opens one.

They do not know each other, and none owns the workspace's format. The other modules are no backends: `shown` is their
interface, `tree`, `lower` and `shield` are the mounts they stand on and make around a workspace.
"""
