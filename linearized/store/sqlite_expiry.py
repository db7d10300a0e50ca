"""What expires in SQLite: key packages, routes, archived content, remembered replies; in small steps."""

from __future__ import annotations

from functools import partial
from typing import Final

from linearized.store.base import REPLY_DAYS
from linearized.store.sqlite_archive import expire_archive
from linearized.store.sqlite_contacts import expire_reports
from linearized.store.sqlite_joining import EXPIRED_ADMISSIONS, EXPIRED_CODES
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import Writes

# Rows of one table that one transaction may remove, so that it never holds up the appends behind it for long.
MAX_EXPIRED_AT_ONCE: Final = 1000
_MS_PER_SECOND: Final = 1000
_MS_PER_DAY: Final = 24 * 3_600_000


def expire(transaction: Transaction, now_ms: int) -> int:
    """Remove some of what has expired, closed reports and archived content too; how many. Zero means none is
    left.
    """
    today = now_ms // _MS_PER_DAY
    transaction.connection.execute("UPDATE reply_day SET day = ? WHERE day <> ?", (today, today))
    removed = 0
    for statement, now in (
        (
            "DELETE FROM key_packages WHERE reference IN"
            " (SELECT reference FROM key_packages WHERE not_after <= ? LIMIT ?)",
            now_ms // _MS_PER_SECOND,
        ),
        (
            "DELETE FROM key_package_routes WHERE reference IN"
            " (SELECT reference FROM key_package_routes WHERE expires_ms <= ? LIMIT ?)",
            now_ms,
        ),
        (
            "DELETE FROM room_routes WHERE (room_id, reference) IN"
            " (SELECT room_id, reference FROM room_routes WHERE expires_ms <= ? LIMIT ?)",
            now_ms,
        ),
        (
            "DELETE FROM replies WHERE (scope, key) IN"
            " (SELECT scope, key FROM replies WHERE day <= ? LIMIT ?)",
            today - REPLY_DAYS - 1,
        ),
        (EXPIRED_CODES, now_ms),
        (EXPIRED_ADMISSIONS, now_ms),
    ):
        removed += transaction.connection.execute(statement, (now, MAX_EXPIRED_AT_ONCE)).rowcount
    removed += expire_archive(transaction, now_ms=now_ms, limit=MAX_EXPIRED_AT_ONCE)
    return removed + expire_reports(transaction, now_ms=now_ms, limit=MAX_EXPIRED_AT_ONCE)


class ExpiryWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def expire(self, now_ms: int) -> int:
        """Remove some of what has expired; see ``Store.expire``."""
        return await self._write(partial(expire, now_ms=now_ms))
