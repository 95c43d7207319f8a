"""Processes: who is at a socket's other end, who uses a mount, what a child inherits, and the process above a command."""
