"""Capture: what the upper layer holds becomes a tree and a sidecar.

Called by every operation that records a workspace. A capture writes objects and moves no ref.
"""
