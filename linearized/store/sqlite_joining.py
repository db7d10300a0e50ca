"""Joining codes in SQLite."""

from __future__ import annotations

from functools import partial
from typing import Final

from linearized.store.joining import AdmissionRow, JoinCodeRow
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import Writes

EXPIRED_CODES: Final = (
    "DELETE FROM join_codes WHERE (room_id, digest) IN"
    " (SELECT room_id, digest FROM join_codes WHERE expires_ts <= ? LIMIT ?)"
)
EXPIRED_ADMISSIONS: Final = (
    "DELETE FROM admissions WHERE (room_id, user_id) IN"
    " (SELECT room_id, user_id FROM admissions WHERE expires_ts <= ? LIMIT ?)"
)


class JoinCodeReads(Reader):
    """The reads of ``JoinCodeStore``."""

    def join_codes(self, room_id: str) -> list[JoinCodeRow]:
        """A room's codes, those that expire first first."""
        return [
            JoinCodeRow(
                room_id=room_id, digest=digest, creator=creator, uses_left=uses_left, expires_ts=expires_ts
            )
            for digest, creator, uses_left, expires_ts in self._query(
                "SELECT digest, creator, uses_left, expires_ts FROM join_codes WHERE room_id = ?"
                " ORDER BY expires_ts, digest",
                room_id,
            )
        ]

    def admission(self, room_id: str, user_id: str) -> AdmissionRow | None:
        """The latest admission of a user to a room, or None."""
        for creator, digest, member_event_id, expires_ts in self._query(
            "SELECT creator, digest, member_event_id, expires_ts FROM admissions"
            " WHERE room_id = ? AND user_id = ?",
            room_id,
            user_id,
        ):
            return AdmissionRow(
                room_id=room_id,
                user_id=user_id,
                creator=creator,
                digest=digest,
                member_event_id=member_event_id,
                expires_ts=expires_ts,
            )
        return None


def put_join_code(transaction: Transaction, *, code: JoinCodeRow, most: int) -> bool:
    """Add a code, unless the room has ``most`` already."""
    made = transaction.connection.execute(
        "INSERT INTO join_codes (room_id, digest, creator, uses_left, expires_ts) SELECT ?, ?, ?, ?, ?"
        " WHERE (SELECT count(*) FROM join_codes WHERE room_id = ?) < ?",
        (code.room_id, code.digest, code.creator, code.uses_left, code.expires_ts, code.room_id, most),
    )
    return made.rowcount == 1


def remove_join_code(transaction: Transaction, *, room_id: str, digest: bytes) -> bool:
    """Revoke a code, and the admissions it gave."""
    execute = transaction.connection.execute
    execute("DELETE FROM admissions WHERE room_id = ? AND digest = ?", (room_id, digest))
    removed = execute("DELETE FROM join_codes WHERE room_id = ? AND digest = ?", (room_id, digest))
    return removed.rowcount == 1


def admit(transaction: Transaction, *, admission: AdmissionRow, now_ms: int) -> bool:
    """Use a code for a user, once for each time that they were outside."""
    execute = transaction.connection.execute
    again = execute(
        "SELECT 1 FROM admissions JOIN join_codes USING (room_id, digest) WHERE room_id = ? AND user_id = ?"
        " AND digest = ? AND member_event_id = ? AND admissions.expires_ts > ?",
        (admission.room_id, admission.user_id, admission.digest, admission.member_event_id, now_ms),
    ).fetchone()
    if again is not None:
        return True
    used = execute(
        "UPDATE join_codes SET uses_left = uses_left - 1"
        " WHERE room_id = ? AND digest = ? AND uses_left > 0 AND expires_ts > ?",
        (admission.room_id, admission.digest, now_ms),
    )
    if used.rowcount == 0:
        return False
    execute(
        "INSERT OR REPLACE INTO admissions (room_id, user_id, creator, digest, member_event_id, expires_ts)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            admission.room_id,
            admission.user_id,
            admission.creator,
            admission.digest,
            admission.member_event_id,
            admission.expires_ts,
        ),
    )
    return True


class JoinCodeWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def put_join_code(self, code: JoinCodeRow, *, most: int) -> bool:
        """Add a joining code, unless the room has too many."""
        return await self._write(partial(put_join_code, code=code, most=most))

    async def remove_join_code(self, room_id: str, digest: bytes) -> bool:
        """Revoke a joining code, and the admissions it gave."""
        return await self._write(partial(remove_join_code, room_id=room_id, digest=digest))

    async def admit(self, admission: AdmissionRow, *, now_ms: int) -> bool:
        """Use a joining code for a user."""
        return await self._write(partial(admit, admission=admission, now_ms=now_ms))
