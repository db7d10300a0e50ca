"""Signatures and hashes of received events (draft, Receiving Events/PDUs, steps 2 and 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from linearized.exceptions import HashMismatch, InvalidInput, SignatureError
from linearized.protocol.events import Event, Lpdu, redacted_copy
from linearized.protocol.hashing import content_hash, lpdu_hash, lpdu_of, signed_bytes
from linearized.protocol.identifiers import is_user_id, user_domain
from linearized.protocol.signing import Claim, check_claims, claims_on, signatures_of, verify_bytes
from linearized.protocol.state import AUTHORISED
from linearized.protocol.values import value_object
from linearized.protocol.versions import RoomVersion

_OF_HANDSHAKES = frozenset(
    {
        "m.mls.commit",
        "dev.linearized.mls.commit_part",
        "m.mls.proposal",
        "m.room.encrypted",
        "m.room.member",
        "m.room.power_levels",
        "m.room.join_rules",
    }
)
"""What a hub writes of a MIMI user's handshakes and messages."""


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
    for claim in event_claims(event, version=version, keys=keys):
        verify_bytes(claim.message, claim.signature, claim.key, name=claim.name)
    return intact_or_redacted(event, version=version)


def event_claims(
    event: Event,
    *,
    version: RoomVersion,
    keys: Callable[[str, str], bytes | None],
    signed: bytes | None = None,
) -> list[Claim]:
    """What is to be checked of an event's signatures, for ``check_claims``, which takes those of many.

    ``keys`` as for ``verify_event``; ``signed`` is the event's ``signed_bytes``, if they are known.

    Raises:
        SignatureError: as ``verify_event``, but for a wrong signature.
    """
    _check_provenance(event)
    whole, partial = _signers(event, version)
    # "If the event has a hub_server field, the event MUST be signed by that server. The event MUST also be
    # signed by the server implied by the sender, noting that this will be an LPDU if hub_server is present.
    # All other signatures MUST NOT be considered for signature validation, regardless of their individual
    # validity."
    message = signed_bytes(event.pdu, version, plain=event.plain) if signed is None else signed
    claims: list[Claim] = []
    for server in whole:
        claims += _claims_of(event, message, server, keys)
    for server in partial:
        lpdu = signed_bytes(lpdu_of(event.pdu), version, plain=event.plain)
        claims += _claims_of(event, lpdu, server, keys)
    return claims


def check_own_name(event: Event, own_name: str) -> None:
    """Refuse what somebody vouches for in the name of a user of ours, but for ciphertexts, handshakes and
    what follows from those, where the proof of who made it is inside: all else our users send we have signed.

    Each server does so for its own users, so that no hub speaks for them unseen. History is another matter:
    our name may have been a Matrix homeserver's.

    Raises:
        SignatureError: the event is not our user's.
    """
    if event.provenance is None or event.imported or user_domain(event.sender) != own_name:
        return
    if event.provenance["protocol"] != "mimi" or event.type not in _OF_HANDSHAKES:
        raise SignatureError(f"the hub vouches for an event that {own_name} has not signed")


def intact_or_redacted(event: Event, *, version: RoomVersion) -> Event:
    """The event, or its redacted copy if a content hash does not match."""
    # "If either the LPDU or PDU content hash doesn't match what the receiving server calculations, the event
    # is redacted before further processing."
    hashes = event.pdu["hashes"]
    intact = hashes["sha256"] == content_hash(event.pdu, version, plain=event.plain) and (
        "lpdu" not in hashes or hashes["lpdu"]["sha256"] == lpdu_hash(event.pdu, version, plain=event.plain)
    )
    return event if intact else redacted_copy(event, version)


@value_object
class VerifiedLpdu:
    """An LPDU of which ``verify_lpdus`` has checked that ``origin``, its sender's server, signed it, and that
    its hash is right. Nothing else makes one.
    """

    lpdu: Lpdu
    origin: str


@value_object
class ClaimedLpdu:
    """An LPDU of a user of ``origin``, with the signatures of that server, which are still to be checked."""

    lpdu: Lpdu
    origin: str
    claims: tuple[Claim, ...]


def claim_lpdu(lpdu: Lpdu, *, version: RoomVersion, origin: str, keys: Mapping[str, bytes]) -> ClaimedLpdu:
    """Find, as the hub, what is to be checked of an LPDU that the server ``origin`` handed us; ``keys`` are
    that server's, by key ID.

    Raises:
        SignatureError: ``origin`` is not the sender's server, or its signature is missing.
    """
    if user_domain(lpdu.pdu["sender"]) != origin:
        raise SignatureError(f"the sender is not a user of {origin}")
    message = signed_bytes(lpdu.pdu, version, plain=lpdu.plain)
    claims = claims_on(message, signatures_of(lpdu.pdu, origin), name=origin, keys=keys)
    return ClaimedLpdu(lpdu=lpdu, origin=origin, claims=tuple(claims))


def verify_lpdus(claimed: Sequence[ClaimedLpdu]) -> list[VerifiedLpdu | SignatureError | HashMismatch]:
    """Check the signatures and hashes of LPDUs; what is wrong with one stands in its place. Other threads run
    meanwhile.

    A hub refuses a wrong hash instead of appending a redacted event: the participant is there to be told.
    """
    wrong = iter(check_claims([claim for each in claimed for claim in each.claims]))
    return [_verified(each, [next(wrong) for _ in each.claims]) for each in claimed]


def verify_lpdu(lpdu: Lpdu, *, version: RoomVersion, origin: str, keys: Mapping[str, bytes]) -> VerifiedLpdu:
    """``claim_lpdu`` and ``verify_lpdus`` for one.

    Raises:
        SignatureError: as ``claim_lpdu``, or the signature is wrong.
        HashMismatch: the LPDU hash does not match.
    """
    (outcome,) = verify_lpdus([claim_lpdu(lpdu, version=version, origin=origin, keys=keys)])
    if isinstance(outcome, InvalidInput):
        raise outcome
    return outcome


def _verified(
    claimed: ClaimedLpdu, wrong: Sequence[SignatureError | None]
) -> VerifiedLpdu | SignatureError | HashMismatch:
    lpdu = claimed.lpdu
    for error in wrong:
        if error is not None:
            return error
    if "hashes" in lpdu.pdu and lpdu.pdu["hashes"]["lpdu"]["sha256"] != lpdu.hash:
        return HashMismatch("the LPDU hash does not match the event")
    return VerifiedLpdu(lpdu=lpdu, origin=claimed.origin)


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


def _claims_of(
    event: Event, message: bytes, server: str, keys: Callable[[str, str], bytes | None]
) -> list[Claim]:
    signatures = signatures_of(event.pdu, server)
    known = {key_id: key for key_id in signatures if (key := keys(server, key_id)) is not None}
    return claims_on(message, signatures, name=server, keys=known)
