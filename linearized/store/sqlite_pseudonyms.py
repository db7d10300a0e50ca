"""Pseudonyms in SQLite."""

from __future__ import annotations

from functools import partial

from linearized.store.pseudonyms import PseudonymRow
from linearized.store.sqlite_devices import delete_device
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import OF_DEVICES, Writes


class PseudonymReads(Reader):
    """The reads of ``PseudonymStore``."""

    def pseudonym(self, user_id: str) -> PseudonymRow | None:
        """The pseudonym, or None."""
        for owner, room_id, created_ts in self._query(
            "SELECT owner, room_id, created_ts FROM pseudonyms WHERE user_id = ?", user_id
        ):
            return PseudonymRow(user_id=user_id, owner=owner, room_id=room_id, created_ts=created_ts)
        return None

    def pseudonyms_of(self, owner: str) -> list[PseudonymRow]:
        """An account's pseudonyms, oldest first."""
        return [
            PseudonymRow(user_id=user_id, owner=owner, room_id=room_id, created_ts=created_ts)
            for user_id, room_id, created_ts in self._query(
                "SELECT user_id, room_id, created_ts FROM pseudonyms WHERE owner = ?"
                " ORDER BY created_ts, user_id",
                owner,
            )
        ]


def put_pseudonym(transaction: Transaction, *, pseudonym: PseudonymRow, device_id: str) -> bool:
    """Make a pseudonym and a device of it, unless the user is somebody else."""
    execute = transaction.connection.execute
    made = execute(
        "INSERT OR IGNORE INTO users (user_id, password_hash, created_ts) VALUES (?, NULL, ?)",
        (pseudonym.user_id, pseudonym.created_ts),
    )
    if made.rowcount > 0:
        execute(
            "INSERT INTO pseudonyms (user_id, owner, room_id, created_ts) VALUES (?, ?, ?, ?)",
            (pseudonym.user_id, pseudonym.owner, pseudonym.room_id, pseudonym.created_ts),
        )
    else:
        known = execute("SELECT owner FROM pseudonyms WHERE user_id = ?", (pseudonym.user_id,)).fetchone()
        if known != (pseudonym.owner,):
            return False
    execute(
        "INSERT OR IGNORE INTO devices (user_id, device_id, display_name, token_hash)"
        " VALUES (?, ?, NULL, NULL)",
        (pseudonym.user_id, device_id),
    )
    return True


def bind_pseudonym(transaction: Transaction, *, user_id: str, room_id: str) -> bool:
    """Use a pseudonym for a room, if it is for no other."""
    bound = transaction.connection.execute(
        "UPDATE pseudonyms SET room_id = ?2 WHERE user_id = ?1 AND (room_id IS NULL OR room_id = ?2)",
        (user_id, room_id),
    )
    return bound.rowcount > 0


def delete_pseudonym(transaction: Transaction, *, user_id: str) -> None:
    """Forget whose a pseudonym is, and its devices."""
    execute = transaction.connection.execute
    if execute("DELETE FROM pseudonyms WHERE user_id = ?", (user_id,)).rowcount == 0:
        return
    devices = execute("SELECT device_id FROM devices WHERE user_id = ?", (user_id,)).fetchall()
    for (device_id,) in devices:
        delete_device(transaction, user_id=user_id, device_id=device_id)


class PseudonymWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def put_pseudonym(self, pseudonym: PseudonymRow, device_id: str) -> bool:
        """Make a pseudonym with a device of that name."""
        operation = partial(put_pseudonym, pseudonym=pseudonym, device_id=device_id)
        return await self._write(operation, tokens=OF_DEVICES)

    async def bind_pseudonym(self, user_id: str, room_id: str) -> bool:
        """Use a pseudonym for a room; False for any but the first."""
        return await self._write(partial(bind_pseudonym, user_id=user_id, room_id=room_id))

    async def delete_pseudonym(self, user_id: str) -> None:
        """Forget whose a pseudonym is, and its devices."""
        await self._write(partial(delete_pseudonym, user_id=user_id), tokens=OF_DEVICES)
