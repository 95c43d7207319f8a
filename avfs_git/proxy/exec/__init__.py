"""Running one command: its view of the workspace, isolation, streams and time limit, and the commit of what it changed.

Called by the SDK. `execute` has the order of all steps.
"""
