"""What is on disk of sessions: records, users of a mount, how a mount ends, and cleaning up after a dead session.

Called by `serve`, by the SDK's lists, and by every open of a vault. A record whose lock nobody holds is a dead
session's.
"""
