"""Profiles and forgotten rooms in SQLite."""

from __future__ import annotations

from functools import partial

from linearized.store.profiles import ProfileRow
from linearized.store.sqlite_history import room_number
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import Writes


def put_profile(transaction: Transaction, *, profile: ProfileRow) -> None:
    """Insert or replace a user's profile."""
    transaction.connection.execute(
        "INSERT OR REPLACE INTO profiles (user_id, displayname, avatar_url) VALUES (?, ?, ?)",
        (profile.user_id, profile.displayname, profile.avatar_url),
    )


def put_forgotten(transaction: Transaction, *, user_id: str, room_id: str, seq: int) -> None:
    """Note which membership a user forgets."""
    transaction.connection.execute(
        "INSERT OR REPLACE INTO forgotten (user_id, room_nr, seq) VALUES (?, ?, ?)",
        (user_id, room_number(transaction, room_id), seq),
    )


class ProfileReads(Reader):
    """The reads of ``ProfileStore``."""

    def profile(self, user_id: str) -> ProfileRow:
        """The user's profile; an empty one if none was ever set."""
        for displayname, avatar_url in self._query(
            "SELECT displayname, avatar_url FROM profiles WHERE user_id = ?", user_id
        ):
            return ProfileRow(user_id=user_id, displayname=displayname, avatar_url=avatar_url)
        return ProfileRow(user_id=user_id)

    def forgotten(self, user_id: str, room_id: str) -> int | None:
        """The ``seq`` that was last noted, or None."""
        rows = self._query(
            "SELECT seq FROM forgotten WHERE user_id = ? AND room_nr = ?", user_id, self._room_number(room_id)
        )
        return rows[0][0] if rows else None


class ProfileWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def put_profile(self, profile: ProfileRow) -> None:
        """Insert or replace a user's profile."""
        await self._write(partial(put_profile, profile=profile))

    async def put_forgotten(self, user_id: str, room_id: str, seq: int) -> None:
        """Note which membership a user forgets."""
        await self._write(partial(put_forgotten, user_id=user_id, room_id=room_id, seq=seq))
