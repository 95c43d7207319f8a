"""The text of a command taken apart: bash's grammar, its words and variables, and where their paths lie.

Called by `proxy.policy`. Looks at text only: nothing here runs, and nothing reads the workspace.
"""
