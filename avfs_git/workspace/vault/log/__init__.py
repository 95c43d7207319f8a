"""The operation log of a vault: the file and its index (`oplog`), what a line says (`oprecord`), lines as bytes (`loglines`).

Called by each operation that moves refs or records changes, and by undo.
"""
