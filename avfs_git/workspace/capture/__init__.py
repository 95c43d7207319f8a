"""An open workspace, and recording it: what a layer holds becomes a tree and a sidecar, and a checkpoint names them.

Called by every operation that saves. Takes a workspace that its caller has locked. A checkpoint is acknowledged when its refs
have moved; before that a crash leaves the fork as it was.
"""
