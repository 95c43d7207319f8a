"""Plug-ins: programs of the user's that are asked before each change of a workspace, and can refuse it.

`enabled` says which there are, `asking` runs and asks them; `__main__`, `process` and the engines are the process of
one plug-in.
"""
