"""Deciding about a command before it runs: what it may do (`commands`), rules, and approvals.

Called by `proxy.exec` through `gate`. It is advice for agents that mean well, not a boundary (docs/design/security.md).
"""
