"""The parts of `Vault` beside its forks: their history, search, other repositories, upkeep. `sdk.vault` puts them together."""
