"""Other repositories: their URLs; clone, fetch and push by git in a directory that sees only the vault's objects.

Called by `workspace.exchange`. A failed exchange raises `RemoteError` and leaves nothing that a ref names.
`RemoteNotFound` says that no remote has a name.
"""
