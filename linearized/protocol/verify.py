"""Signatures and hashes of received events (draft, Receiving Events/PDUs, steps 2 and 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from linearized.exceptions import HashMismatch, SignatureError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event, check_lpdu, redacted_copy, strip_unhashed
from linearized.protocol.hashing import content_hash, lpdu_hash, lpdu_identity, lpdu_of, signed_bytes
from linearized.protocol.identifiers import is_user_id, user_domain
from linearized.protocol.signing import signatures_of, verify_message
from linearized.protocol.state import AUTHORISED
from linearized.protocol.versions import RoomVersion


def required_keys(event: Event, *, version: RoomVersion) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Name the keys that checking an event's signatures may ask for: ``((server name, (key ID, ...)), ...)``.

    Raises:
        SignatureError: a required signature is missing or malformed.
    """
    whole, partial = _signers(event, version)
    return tuple((server, tuple(signatures_of(event.pdu, server))) for server in (*whole, *partial))


def verify_event(event: Event, *, version: RoomVersion, keys: Callable[[str, str], bytes | None]) -> Event:
    """Check an event's required signatures and its hashes; give it, or its redacted copy if a hash does not
    match.

    ``keys`` gives the raw 32-byte public key for a server name and key ID, or None when it is not known.

    Raises:
        SignatureError: a required signature is missing, by unknown keys only, or wrong; or the event claims a
            provenance its hub cannot vouch for.
    """
    _check_provenance(event)
    whole, partial = _signers(event, version)
    # "If the event has a hub_server field, the event MUST be signed by that server. The event MUST also be
    # signed by the server implied by the sender, noting that this will be an LPDU if hub_server is present.
    # All other signatures MUST NOT be considered for signature validation, regardless of their individual
    # validity."
    for server in whole:
        _check_signature(event.pdu, event.pdu, server, version, keys)
    for server in partial:
        _check_signature(event.pdu, lpdu_of(event.pdu), server, version, keys)
    # "If either the LPDU or PDU content hash doesn't match what the receiving server calculations, the event
    # is redacted before further processing."
    hashes = event.pdu["hashes"]
    intact = hashes["sha256"] == content_hash(event.pdu, version) and (
        "lpdu" not in hashes or hashes["lpdu"]["sha256"] == lpdu_hash(event.pdu, version)
    )
    return event if intact else redacted_copy(event, version)


def verify_lpdu(lpdu: JsonObject, *, version: RoomVersion, origin: str, keys: Mapping[str, bytes]) -> None:
    """Check, as the hub, an LPDU that the server ``origin`` handed us; ``keys`` are that server's, by key ID.

    A hub refuses a wrong hash instead of appending a redacted event: the participant is there to be told.

    Raises:
        EventFormatError: not an LPDU.
        SignatureError: ``origin`` is not the sender's server, or its signature is missing or wrong.
        HashMismatch: the LPDU hash does not match.
    """
    check_lpdu(lpdu, version)
    if user_domain(lpdu["sender"]) != origin:
        raise SignatureError(f"the sender is not a user of {origin}")
    verify_message(signed_bytes(lpdu, version), signatures_of(lpdu, origin), name=origin, keys=keys)
    bare = strip_unhashed(lpdu, version)
    if lpdu_identity(bare, version) != lpdu_hash(bare, version):
        raise HashMismatch("the LPDU hash does not match the event")


def _signers(event: Event, version: RoomVersion) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The servers whose signatures are required: on the whole event, and on the LPDU in it."""
    origin = user_domain(event.sender)
    whole = event.hub_server or origin
    partial = () if whole == origin or event.provenance is not None else (origin,)
    authoriser = _authoriser(event, version)
    if authoriser is None or authoriser == whole:
        return (whole,), partial
    return (whole, authoriser), partial


def _authoriser(event: Event, version: RoomVersion) -> str | None:
    # Matrix room version 10, rule 4.2: "If content has a join_authorised_via_users_server key: If the event
    # is not validly signed by the homeserver of the user ID denoted by the key, reject."
    if not version.authorised_join_rules or event.type != "m.room.member" or AUTHORISED not in event.content:
        return None
    user_id = event.content[AUTHORISED]
    if not is_user_id(user_id):
        raise SignatureError(f"{AUTHORISED} names no user whose server could have signed")
    return user_domain(user_id)


def _check_provenance(event: Event) -> None:
    # dev.linearized.1: who vouches names whose word it passes on. A Matrix homeserver speaks for its own
    # users only; which provider serves a MIMI user's domain is for the receiver's directory to know.
    if event.provenance is not None and event.provenance["protocol"] == "matrix":
        provider = event.provenance["provider"]
        if provider != user_domain(event.sender):
            raise SignatureError(f"the provenance names {provider}, which is not the sender's server")


def _check_signature(
    signed: JsonObject,
    covered: JsonObject,
    server: str,
    version: RoomVersion,
    keys: Callable[[str, str], bytes | None],
) -> None:
    signatures = signatures_of(signed, server)
    known = {key_id: key for key_id in signatures if (key := keys(server, key_id)) is not None}
    verify_message(signed_bytes(covered, version), signatures, name=server, keys=known)
