"""The parts of `Vault` beside its forks: history, events, policy, search, other repositories, upkeep.

`sdk.vault` joins them.
"""
