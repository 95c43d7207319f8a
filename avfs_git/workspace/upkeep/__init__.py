"""Looking after a vault: `doctor` finds damage and repairs it, `garbage` removes what nothing needs any more.

Called by the SDK, beside other processes that work in the vault.
"""
