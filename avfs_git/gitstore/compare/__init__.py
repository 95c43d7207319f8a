"""How two states differ: trees by path, renames, lines of a text, and the commits between them.

Called by `workspace` for diff, log, restore and merges. Reads objects only; the cost follows what differs.
"""
