"""What the store keeps for a user's clients: account data (Client-Server API, Client Config)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

GLOBAL = ""
"""In the place of a room ID: account data of the whole account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountDataRow:
    """One piece of account data.

    Attributes:
        content: a JSON object.
        position: among all of the user's, rises with each change; given by the store.
    """

    user_id: str
    room_id: str
    type: str
    content: bytes
    position: int = 0


class AccountDataStore(Protocol):
    """The part of ``Store`` for these."""

    async def put_account_data(self, row: AccountDataRow, *, most_rows: int, most_bytes: int) -> bool:
        """Insert or replace; False, and nothing changed, if the user would have more than that."""
        ...

    def account_datum(self, user_id: str, room_id: str, kind: str) -> bytes | None:
        """The content, or None."""
        ...

    def account_data_in(self, user_id: str, room_id: str) -> list[AccountDataRow]:
        """A user's of one room, in the order of their changes."""
        ...

    def account_data(self, user_id: str, *, after: int) -> list[AccountDataRow]:
        """A user's with ``position > after``, in that order."""
        ...
