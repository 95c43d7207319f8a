"""What the doctor looks for: each module finds the faults of one part of a vault, and says what mends them.

Called by the doctor, which looks twice; `garbage` asks what `avfs/commits` has lost.
"""
