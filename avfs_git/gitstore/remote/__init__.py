"""Other repositories: their URLs, and clone, fetch and push by git in a directory that sees nothing of the vault but objects.

Called by `workspace.exchange`. A failed exchange leaves nothing that a ref names.
"""
