"""Processes: a socket's peer, the users of a mount, what a child inherits, and the process above a command."""
