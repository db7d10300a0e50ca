"""What the store keeps of pseudonyms: whose they are, and for which room.

Nobody but the user's own provider can tell. Users are Matrix user IDs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudonymRow:
    """A pseudonym of an account.

    Attributes:
        user_id: the pseudonym.
        owner: the account.
        room_id: the one room it is for; None until it is used for the first time.
        created_ts: milliseconds since the Unix epoch.
    """

    user_id: str
    owner: str
    room_id: str | None = None
    created_ts: int


class PseudonymStore(Protocol):
    """The part of ``Store`` for these."""

    async def put_pseudonym(self, pseudonym: PseudonymRow, device_id: str) -> bool:
        """Make a pseudonym with a device of that name, each unless it exists; a pseudonym is a user without a
        password. False, and nothing changed, if there is such a user already who is none of ``owner``'s
        pseudonyms.
        """
        ...

    async def bind_pseudonym(self, user_id: str, room_id: str) -> bool:
        """Use a pseudonym for a room: whether it is for that one, now or before. False for any other room,
        and for who is no pseudonym.
        """
        ...

    async def delete_pseudonym(self, user_id: str) -> None:
        """Forget whose a pseudonym is, and its devices with what is kept for them. The user stays, so that
        nobody is ever given that name again.
        """
        ...

    def pseudonym(self, user_id: str) -> PseudonymRow | None:
        """The pseudonym, or None."""
        ...

    def pseudonyms_of(self, owner: str) -> list[PseudonymRow]:
        """An account's pseudonyms, oldest first."""
        ...
