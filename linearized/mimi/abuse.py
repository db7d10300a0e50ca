"""Reporting abusive messages to the hub (draft-ietf-mimi-protocol-06, "Report abuse")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

from linearized.exceptions import InvalidInput, MimiDecodeError, SignatureError
from linearized.mimi.app_data import NO_APP_DATA, AppDataDictionary
from linearized.mimi.franking import (
    Claims,
    ServerFrankingContext,
    Verify,
    franking_tag,
    verify_frank,
    verify_server_frank,
)
from linearized.mimi.messages import Frank
from linearized.mimi.tls import Bytes, String, Struct, Uint8, Uint64, Uri, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class AbusiveMessage(Struct):
    """A message as it was decrypted, and the hub's stamp that proves it went through the hub.

    ``message_content`` is the ``application_data``, usually MIMI content; the time is in milliseconds since
    the Unix epoch.
    """

    message_content: Bytes
    frank: Frank
    accepted_timestamp: Uint64


@dataclass(frozen=True, slots=True, kw_only=True)
class AbuseReport(Struct):
    """The body of ``POST /reportAbuse/{roomId}``.

    ``reporting_user`` may be empty. ``reason_code`` has no assigned values yet; 0 says nothing about the
    reason.
    """

    reporting_user: Uri = ""
    alleged_abuser_uri: Uri
    reason_code: Uint8 = 0
    note: String = ""
    messages: Annotated[tuple[AbusiveMessage, ...], Vector(AbusiveMessage)] = ()
    extensions: AppDataDictionary = NO_APP_DATA


class AbuseReportError(InvalidInput):
    """A report names a message that this hub did not stamp as it is given."""


class VerifierOf(Protocol):
    """Finds what checks the hub's own signatures of a cipher suite."""

    def __call__(self, cipher_suite: int) -> Verify | None:
        """The check, or None for a suite the hub has no key of."""
        ...


def check_report(report: AbuseReport, *, room_uri: str, hub_key: bytes, verify_of: VerifierOf) -> None:
    """Check, as the hub, that every message of a report is one this hub stamped, by the accused, in the room.

    "To validate an allegedly AbusiveMessage, the hub finds the salt, sender URI, and room URI inside the
    message_content and the accepted_timestamp to recalculate the franking_tag and context. Then the hub
    selects its relevant hub_key to regenerate the server_frank. Finally the hub verifies its
    franking_integrity_signature" (Report abuse).

    Args:
        room_uri: that of the request's path.

    Raises:
        AbuseReportError: one is not; the report is refused as a whole.
    """
    for message in report.messages:
        try:
            claims = Claims.of(message.message_content)
        except MimiDecodeError as error:
            raise AbuseReportError(f"a reported message cannot be read: {error}") from error
        if claims.sender_uri != report.alleged_abuser_uri:
            raise AbuseReportError("a reported message was sent by somebody else")
        if claims.room_uri != room_uri:
            raise AbuseReportError("a reported message was sent to another room")
        _check_stamp(message, claims, hub_key=hub_key, verify_of=verify_of)


def _check_stamp(message: AbusiveMessage, claims: Claims, *, hub_key: bytes, verify_of: VerifierOf) -> None:
    suite = message.frank.franking_signature_ciphersuite
    verify = verify_of(suite)
    if verify is None:
        raise AbuseReportError(f"this hub franks nothing with cipher suite {suite:#06x}")
    context = ServerFrankingContext(
        sender_uri=claims.sender_uri,
        room_uri=claims.room_uri,
        accepted_timestamp=message.accepted_timestamp,
    )
    tag = franking_tag(salt=claims.salt, application_data=message.message_content)
    try:
        verify_server_frank(message.frank.server_frank, hub_key=hub_key, tag=tag, context=context)
        verify_frank(message.frank, context=context, cipher_suite=suite, verify=verify)
    except SignatureError as error:
        raise AbuseReportError(str(error)) from error
