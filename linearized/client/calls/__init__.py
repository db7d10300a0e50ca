"""The parts of ``ProviderApi``: the calls of each family of endpoints."""
