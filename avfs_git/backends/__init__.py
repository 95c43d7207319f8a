"""Ways to show a workspace to a command: they do not know each other, and none owns the workspace's format."""
