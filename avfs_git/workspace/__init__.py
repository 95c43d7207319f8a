"""Vaults, forks and workspaces: saving them, restoring them, and taking it back.

Any function may raise `HostError` where the disk refuses, `WorkspaceBusy` where another process holds a workspace for
too long, `QuotaExceeded` where it stores objects and the vault holds all it may, and `ForkNotFound`,
`CheckpointNotFound`, `OperationNotFound` or `RemoteNotFound` for a name of nothing. Docstrings name only what else is
raised, or what stays then.
"""
