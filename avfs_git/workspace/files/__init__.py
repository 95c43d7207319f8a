"""What a caller does with files of a workspace: reads and changes them, adds them to history, carries them in and out.

Called by the SDK and, while a workspace is mounted, by its session. It stands above `restore`, which changes files to
return to a saved state.
"""
