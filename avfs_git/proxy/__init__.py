"""Running one command in a workspace: what it may do, how it runs, and what it changed."""
