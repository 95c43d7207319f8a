"""Forks for programs: one for the time of a run, or several of which one is picked.

`cli.commands.running` calls this.
"""
