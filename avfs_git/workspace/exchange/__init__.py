"""Other repositories and the user's programs: clone, fetch, push, apply, and hooks.

Called by the SDK without a workspace lock. Refs here move together when an exchange went well.
"""
