"""Coding agents that run programs at their events: what they send, what they understand, and where they read it from."""
