"""Coding agents that run programs at their events: what they send and understand, and where they read it from."""
