"""Pure MIMI: the structures of draft-ietf-mimi-protocol-06, MIMI content, roles.

No HTTP, no clock, no randomness.
"""
