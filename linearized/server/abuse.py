"""Abuse reports: taken by the hub of the room, kept for its operator (draft-ietf-mimi-protocol-06).

"Abuse reports are only sent to the hub provider" (Report abuse): none is passed on to the provider of the
accused. What is done about one is the operator's to decide.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

import openmls

from linearized.exceptions import MimiDecodeError, SignatureError
from linearized.mimi.abuse import AbuseReport, AbuseReportError, AbusiveMessage, check_report
from linearized.mimi.franking import Claims, Verify
from linearized.mimi.messages import Frank
from linearized.protocol.base64 import decode_base64
from linearized.protocol.identifiers import room_uri, user_domain, user_id_from_uri, user_uri
from linearized.server.franking import FRANK, kept_frank
from linearized.server.http import HttpError
from linearized.server.node import Node
from linearized.server.providers.client import ProviderError
from linearized.store.base import EntryRow, Role, RoomRow
from linearized.store.contacts import ReportRow

# What a person can look through; each message is decrypted content that the operator reads.
MAX_MESSAGES: Final = 50
MAX_NOTE: Final = 4096  # characters; a page of text
# Reports of one provider that wait for the operator. Past it the provider hears 429: more would be a flood
# that hides the others'.
MAX_OPEN: Final = 1000
# How long a provider that has reached MAX_OPEN should wait: a working day of the operator's.
RETRY_MS: Final = 8 * 3_600_000
ACCEPTED: Final = frozenset({200, 201, 202, 204})


async def receive(node: Node, provider: str, room_id: str, report: AbuseReport) -> int | None:
    """As the hub, check a report and keep it; its number, or None if it was kept before.

    Args:
        provider: who sends it; our own name for one of our users, who was checked.

    Raises:
        HttpError: 403 ``M_FORBIDDEN`` from a provider that never had a user in the room (or there is no such
            room), or in the name of a user of another; 413 ``M_TOO_LARGE``; 429 ``M_LIMIT_EXCEEDED``; 400
            ``M_INVALID_PARAM`` for an accused who never was in the room, and for a message that we did not
            stamp as it is given.
    """
    abuser, reporter = _check_people(node, provider, room_id, report)
    if len(report.messages) > MAX_MESSAGES or len(report.note) > MAX_NOTE:
        raise HttpError(413, "M_TOO_LARGE", f"At most {MAX_MESSAGES} messages and {MAX_NOTE} characters")
    franking = node.franking

    def verify_of(cipher_suite: int) -> Verify | None:
        signer = franking.keys.signers.get(cipher_suite)
        return _verifier(signer, cipher_suite) if signer is not None else None

    try:
        check_report(report, room_uri=room_uri(room_id), hub_key=franking.keys.hub_key, verify_of=verify_of)
    except AbuseReportError as error:
        raise HttpError(400, "M_INVALID_PARAM", str(error)) from error
    encoded = report.encode()
    return await _keep(
        node,
        ReportRow(
            digest=_digest(provider, room_id, reporter, encoded),
            room_id=room_id,
            provider=provider,
            reporter=reporter,
            abuser=abuser,
            reason_code=report.reason_code,
            note=report.note,
            report=encoded,
            event_id="",
            verified=len(report.messages),
            received_at=node.clock(),
        ),
    )


async def report_event(
    node: Node, row: RoomRow, entry: EntryRow, *, user_id: str, note: str, content: bytes | None
) -> None:
    """Report an event for one of our users: to our operator, or to the hub if it can be proved to that.

    Args:
        content: what the client decrypted; None for an event that is no franked message.

    Raises:
        HttpError: as ``receive``.
        ProviderError: the hub did not accept it.
    """
    if content is None:
        await _keep_event(node, row, entry, user_id=user_id, note=note)
        return
    report = _report_of(node, entry, note=note, content=content)
    if kept_frank(entry) is None:  # we stamped it ourselves, if another is the room's hub by now as well
        own = replace(report, reporting_user=user_uri(user_id))
        await receive(node, node.identity.name, row.room_id, own)
        return
    # "The reportingUser optionally contains the identity of the user": who reports is no business of another
    # provider's.
    answer = await node.providers.post(row.hub, "reportAbuse", room_uri(row.room_id), report.encode())
    if answer.status not in ACCEPTED:
        raise ProviderError(
            f"{row.hub} answered {answer.status} to an abuse report",
            status=answer.status,
            retry_after_s=answer.retry_after_s,
        )


def _report_of(node: Node, entry: EntryRow, *, note: str, content: bytes) -> AbuseReport:
    stamp = kept_frank(entry)
    frank = Frank.decode(decode_base64(stamp)) if stamp is not None else node.franking.of_entry(entry)
    if frank is None:
        raise HttpError(400, "M_INVALID_PARAM", f"The event has no {FRANK}: report it without its content")
    try:
        sender = Claims.of(content).sender_uri
    except MimiDecodeError as error:
        raise HttpError(400, "M_INVALID_PARAM", f"The content cannot be read: {error}") from error
    message = AbusiveMessage(message_content=content, frank=frank, accepted_timestamp=entry.origin_server_ts)
    return AbuseReport(alleged_abuser_uri=sender, note=note, messages=(message,))


async def _keep_event(node: Node, row: RoomRow, entry: EntryRow, *, user_id: str, note: str) -> None:
    await _keep(
        node,
        ReportRow(
            digest=_digest(node.identity.name, row.room_id, user_id, entry.event_id.encode() + note.encode()),
            room_id=row.room_id,
            provider=node.identity.name,
            reporter=user_id,
            abuser=entry.sender,
            reason_code=0,
            note=note,
            report=b"",
            event_id=entry.event_id,
            verified=0,
            received_at=node.clock(),
        ),
    )


async def _keep(node: Node, report: ReportRow) -> int | None:
    if node.store.open_reports(report.provider) >= MAX_OPEN:
        raise HttpError(
            429, "M_LIMIT_EXCEEDED", "Too many reports wait for the operator", retry_after_ms=RETRY_MS
        )
    return await node.store.put_report(report)


def _check_people(node: Node, provider: str, room_id: str, report: AbuseReport) -> tuple[str, str]:
    """The accused and the reporter (empty if not said) as user IDs."""
    row = node.rooms.row(room_id)
    # Whoever was in the room once may have something to report, above all those who left because of it.
    members = {member.user_id for member in node.store.memberships(room_id)}
    speaks_for = node.served_domains if provider == node.identity.name else {provider}
    if (
        row is None
        # What we stamped before the room moved on, our own users report to us.
        or (row.role is not Role.HUB and provider != node.identity.name)
        or not any(user_domain(user_id) in speaks_for for user_id in members)
    ):
        raise HttpError(403, "M_FORBIDDEN", "Abuse is reported to the hub of a room you are in")
    reporter = user_id_from_uri(report.reporting_user) if report.reporting_user else ""
    if reporter and (user_domain(reporter) not in speaks_for or reporter not in members):
        raise HttpError(403, "M_FORBIDDEN", f"{provider} does not speak for that user")
    abuser = user_id_from_uri(report.alleged_abuser_uri)
    if abuser not in members:
        raise HttpError(400, "M_INVALID_PARAM", "The accused was never in the room")
    return abuser, reporter


def _verifier(signer: openmls.SignatureKeyPair, cipher_suite: int) -> Verify:
    def verify(*, label: str, content: bytes, signature: bytes) -> None:
        try:
            openmls.verify_with_label(
                ciphersuite=cipher_suite,
                public_key=signer.public_key,
                label=label,
                content=content,
                signature=signature,
            )
        except openmls.MlsError as error:
            raise SignatureError("the frank's signature is not this hub's") from error

    return verify


def _digest(*parts: str | bytes) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hashed.update(len(data).to_bytes(8, "big") + data)
    return hashed.hexdigest()
