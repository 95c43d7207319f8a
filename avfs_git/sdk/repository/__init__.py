"""The parts of `Vault` beside its forks: the history of its forks, other repositories, upkeep. `sdk.vault` puts them together."""
