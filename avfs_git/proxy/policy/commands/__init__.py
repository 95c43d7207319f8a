"""What a command may do by its text: `classify` walks it, `programs` knows the programs, `checks` their arguments.

Called by `policy.decide`. Pure: nothing is run, looked up or read from the workspace.
"""
