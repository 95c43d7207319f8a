"""Making a vault: empty, from a directory, or from a clone with what is uncommitted there.

Called by the SDK, by forks of directories (`forks.clones`) and by `exchange.cloning`. A source is only read; a crash
leaves no vault or a whole one.
"""
