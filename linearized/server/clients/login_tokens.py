"""Tokens that log a user in once, on another device: one that is logged in asks for it (Client-Server API,
Token-based user login). They are kept in memory, and end with the server.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

# "the token … SHOULD expire after two minutes".
LIFETIME_MS: Final = 2 * 60 * 1000
# At about 300 bytes each; the oldest goes first. Each took a password, so nobody makes many.
MAX_TOKENS: Final = 10_000


class LoginTokens:
    """By the hash of the token.

    Args:
        clock: milliseconds since the Unix epoch.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._tokens: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def keep(self, hashed: str, user_id: str) -> None:
        """Remember a token of a user."""
        self._tokens[hashed] = user_id, self._clock() + LIFETIME_MS
        while len(self._tokens) > MAX_TOKENS:
            self._tokens.popitem(last=False)

    def spend(self, hashed: str) -> str | None:
        """Whose token it is; None if there is none such, or it has expired. It is worth nothing from then
        on.
        """
        user_id, expires = self._tokens.pop(hashed, (None, 0))
        return user_id if expires > self._clock() else None
