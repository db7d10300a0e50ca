"""Names of rooms, and the rooms that are shown to everybody here, as the store keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasRow:
    """``#name:server``, the room it stands for, and the user who gave it."""

    alias: str
    room_id: str
    creator: str


class DirectoryStore(Protocol):
    """The part of ``Store`` for these."""

    async def put_alias(self, row: AliasRow, *, most: int) -> str | None:
        """Keep an alias, unless it exists or the room has ``most`` already.

        Returns:
            The room the alias stands for now; None if the room has too many.
        """
        ...

    async def delete_alias(self, alias: str) -> None:
        """Forget an alias, if there is one."""
        ...

    async def set_published(self, room_id: str, published: bool, *, most: int) -> bool:
        """Show a room to everybody here, or no more; False, and nothing changed, if ``most`` are shown."""
        ...

    def alias(self, alias: str) -> AliasRow | None:
        """What an alias stands for."""
        ...

    def aliases(self, room_id: str) -> list[str]:
        """The aliases of a room, in order."""
        ...

    def published(self) -> list[str]:
        """The IDs of the rooms that are shown to everybody here."""
        ...
