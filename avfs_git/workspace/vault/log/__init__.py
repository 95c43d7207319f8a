"""The operation log of a vault: the file and its index (`oplog`), a line's content (`oprecord`), bytes (`loglines`).

Called by each operation that moves refs or records changes, and by undo.
"""
