"""Listing, reading and finding files of a workspace, or of another state."""
