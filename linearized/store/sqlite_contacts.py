"""Abuse reports, consent and searchable fields in SQLite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from linearized.store.contacts import KEEP_CLOSED_MS, ConsentRow, FieldRow, ReportRow
from linearized.store.sqlite_reader import Reader
from linearized.store.sqlite_writer import Transaction
from linearized.store.sqlite_writes import Writes

_REPORT = """
SELECT number, digest, room_id, provider, reporter, abuser, reason_code, note, report, event_id, verified,
    received_at, closed_at
FROM abuse_reports WHERE number = ?
"""
_REPORTS = """
SELECT number, digest, room_id, provider, reporter, abuser, reason_code, note, report, event_id, verified,
    received_at, closed_at
FROM abuse_reports WHERE (closed_at IS NOT NULL) = ? ORDER BY number LIMIT ?
"""
_CONSENT = """
SELECT requester, target, room_id, state, changed_at, key_packages
FROM consents WHERE requester = ? AND target = ? AND room_id = ?
"""
_CONSENTS = """
SELECT requester, target, room_id, state, changed_at, key_packages
FROM consents WHERE requester = ? AND target = ? ORDER BY room_id
"""
_CONSENTS_OF = """
SELECT requester, target, room_id, state, changed_at, key_packages
FROM consents WHERE requester = ?1 OR target = ?1
ORDER BY changed_at DESC, requester, target, room_id LIMIT ?2
"""
_FIND_EXACTLY = """
SELECT DISTINCT user_id FROM searchable
WHERE source = ? AND value = ? AND name IN (SELECT value FROM json_each(?)) ORDER BY user_id LIMIT ?
"""
_FIND_CONTAINING = """
SELECT DISTINCT user_id FROM searchable
WHERE instr(folded, ?1) > 0 AND (?2 IS NULL OR name IN (SELECT value FROM json_each(?2)))
ORDER BY user_id LIMIT ?3
"""


def put_report(transaction: Transaction, report: ReportRow) -> int | None:
    """Keep a report; its number, or None if it is kept already."""
    row = transaction.connection.execute(
        "INSERT INTO abuse_reports"
        " (digest, room_id, provider, reporter, abuser, reason_code, note, report, event_id, verified,"
        " received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (digest) DO NOTHING RETURNING number",
        (
            report.digest,
            report.room_id,
            report.provider,
            report.reporter,
            report.abuser,
            report.reason_code,
            report.note,
            report.report,
            report.event_id,
            report.verified,
            report.received_at,
        ),
    ).fetchone()
    return row[0] if row is not None else None


def close_report(transaction: Transaction, *, number: int, closed_at: int) -> bool:
    """Mark an open report as dealt with."""
    changed = transaction.connection.execute(
        "UPDATE abuse_reports SET closed_at = ? WHERE number = ? AND closed_at IS NULL", (closed_at, number)
    )
    return changed.rowcount > 0


def expire_reports(transaction: Transaction, *, now_ms: int, limit: int) -> int:
    """Remove some reports that were closed long ago; how many."""
    return transaction.connection.execute(
        "DELETE FROM abuse_reports WHERE number IN"
        " (SELECT number FROM abuse_reports WHERE closed_at <= ? LIMIT ?)",
        (now_ms - KEEP_CLOSED_MS, limit),
    ).rowcount


def put_consent(transaction: Transaction, consent: ConsentRow) -> None:
    """Insert or replace a consent."""
    transaction.connection.execute(
        "INSERT OR REPLACE INTO consents (requester, target, room_id, state, changed_at, key_packages)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            consent.requester,
            consent.target,
            consent.room_id,
            consent.state,
            consent.changed_at,
            consent.key_packages,
        ),
    )


def delete_consent(transaction: Transaction, *, requester: str, target: str, room_id: str) -> None:
    """Forget a consent."""
    transaction.connection.execute(
        "DELETE FROM consents WHERE requester = ? AND target = ? AND room_id = ?",
        (requester, target, room_id),
    )


def take_key_packages(transaction: Transaction, *, requester: str, target: str, room_id: str) -> bytes:
    """Hand out the key packages of a grant, once."""
    row = transaction.connection.execute(_CONSENT, (requester, target, room_id)).fetchone()
    if row is None:
        return b""
    transaction.connection.execute(
        "UPDATE consents SET key_packages = x'' WHERE requester = ? AND target = ? AND room_id = ?",
        (requester, target, room_id),
    )
    packages: bytes = row[-1]
    return packages


def put_consent_required(transaction: Transaction, *, user_id: str, required: bool) -> None:
    """Remember what a user wants."""
    transaction.connection.execute(
        "INSERT OR REPLACE INTO consent_required (user_id, required) VALUES (?, ?)", (user_id, int(required))
    )


def put_fields(transaction: Transaction, *, user_id: str, fields: Sequence[FieldRow]) -> None:
    """Replace the fields a user may be found by."""
    transaction.connection.execute("DELETE FROM searchable WHERE user_id = ?", (user_id,))
    transaction.connection.executemany(
        "INSERT OR IGNORE INTO searchable (user_id, source, name, value, folded) VALUES (?, ?, ?, ?, ?)",
        [(user_id, field.source, field.name, field.value, field.value.casefold()) for field in fields],
    )


class ContactReads(Reader):
    """Reads of the same."""

    def report(self, number: int) -> ReportRow | None:
        """The report, or None."""
        rows = self._query(_REPORT, number)
        return _report(rows[0]) if rows else None

    def reports(self, *, closed: bool, limit: int) -> list[ReportRow]:
        """Reports, oldest first."""
        rows = self._query(_REPORTS, int(closed), max(limit, 0))
        return [_report(row) for row in rows]

    def open_reports(self, provider: str) -> int:
        """How many reports of a provider are open."""
        count: int = self._query(
            "SELECT count(*) FROM abuse_reports WHERE provider = ? AND closed_at IS NULL", provider
        )[0][0]
        return count

    def consent(self, requester: str, target: str, room_id: str) -> ConsentRow | None:
        """What is known, or None."""
        rows = self._query(_CONSENT, requester, target, room_id)
        return _consent(rows[0]) if rows else None

    def consents(self, requester: str, target: str) -> list[ConsentRow]:
        """What is known between two users, by room ID."""
        rows = self._query(_CONSENTS, requester, target)
        return [_consent(row) for row in rows]

    def consents_of(self, user_id: str, *, limit: int) -> list[ConsentRow]:
        """What is known of a user, latest first."""
        rows = self._query(_CONSENTS_OF, user_id, max(limit, 0))
        return [_consent(row) for row in rows]

    def waiting_consents(self, target: str) -> int:
        """How many requests wait for a user's answer."""
        count: int = self._query(
            "SELECT count(*) FROM consents WHERE target = ? AND state = 'requested'", target
        )[0][0]
        return count

    def consent_required(self, user_id: str) -> bool | None:
        """What the user has set."""
        rows = self._query("SELECT required FROM consent_required WHERE user_id = ?", user_id)
        return bool(rows[0][0]) if rows else None

    def fields(self, user_id: str) -> list[FieldRow]:
        """The fields a user may be found by."""
        rows = self._query(
            "SELECT source, name, value FROM searchable WHERE user_id = ? ORDER BY source, name, value",
            user_id,
        )
        return [
            FieldRow(user_id=user_id, source=source, name=name, value=value) for source, name, value in rows
        ]

    def find_exactly(self, source: int, names: Sequence[str], value: str, *, limit: int) -> list[str]:
        """Users with that value in one of the named fields."""
        rows = self._query(_FIND_EXACTLY, source, value, json.dumps(list(names)), max(limit, 0))
        return [user_id for (user_id,) in rows]

    def find_containing(self, names: Sequence[str] | None, text: str, *, limit: int) -> list[str]:
        """Users with ``text``, in whatever case, inside one of the named fields."""
        chosen = None if names is None else json.dumps(list(names))
        rows = self._query(_FIND_CONTAINING, text.casefold(), chosen, max(limit, 0))
        return [user_id for (user_id,) in rows]


def _report(row: tuple[Any, ...]) -> ReportRow:
    number, digest, room_id, provider, reporter, abuser, code, note, report, event_id, *rest = row
    verified, received_at, closed_at = rest
    return ReportRow(
        number=number,
        digest=digest,
        room_id=room_id,
        provider=provider,
        reporter=reporter,
        abuser=abuser,
        reason_code=code,
        note=note,
        report=report,
        event_id=event_id,
        verified=verified,
        received_at=received_at,
        closed_at=closed_at,
    )


def _consent(row: tuple[Any, ...]) -> ConsentRow:
    requester, target, room_id, state, changed_at, packages = row
    return ConsentRow(
        requester=requester,
        target=target,
        room_id=room_id,
        state=state,
        changed_at=changed_at,
        key_packages=packages,
    )


class ContactWrites(Writes):
    """The writes of this module, each durable when it returns."""

    async def put_report(self, report: ReportRow) -> int | None:
        """Keep a report; its number, or None if it is kept already."""
        return await self._write(partial(put_report, report=report))

    async def close_report(self, number: int, closed_at: int) -> bool:
        """Mark an open report as dealt with; False if there is none."""
        return await self._write(partial(close_report, number=number, closed_at=closed_at))

    async def put_consent(self, consent: ConsentRow) -> None:
        """Insert or replace what is known for a requester, a target and a room."""
        await self._write(partial(put_consent, consent=consent))

    async def delete_consent(self, requester: str, target: str, room_id: str) -> None:
        """Forget a consent."""
        await self._write(partial(delete_consent, requester=requester, target=target, room_id=room_id))

    async def take_key_packages(self, requester: str, target: str, room_id: str) -> bytes:
        """Hand out what came with a grant, once."""
        return await self._write(
            partial(take_key_packages, requester=requester, target=target, room_id=room_id)
        )

    async def put_consent_required(self, user_id: str, *, required: bool) -> None:
        """Remember whether a user's key packages are for those alone who were granted them."""
        await self._write(partial(put_consent_required, user_id=user_id, required=required))

    async def put_fields(self, user_id: str, fields: Sequence[FieldRow]) -> None:
        """Replace the fields a user may be found by."""
        await self._write(partial(put_fields, user_id=user_id, fields=fields))
