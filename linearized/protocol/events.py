"""Events: from JSON objects to values (draft, Events; Receiving Events/PDUs, step 1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field

import orjson

from linearized.exceptions import CanonicalJsonError, EventFormatError
from linearized.protocol.canonical import (
    JsonObject,
    canonical_json,
    check_decoded,
    check_json,
    encode_checked,
)
from linearized.protocol.hashing import content_hash, event_id_of, lpdu_hash, signed_bytes
from linearized.protocol.redaction import redact
from linearized.protocol.schema import check_lpdu_schema, check_pdu_schema
from linearized.protocol.values import value_object
from linearized.protocol.versions import RoomVersion

MAX_EVENT_BYTES = 65536
"""Draft: "An event/PDU MUST NOT exceed 65536 bytes when formatted using Canonical JSON", signatures too."""

MAX_EVENT_DEPTH = 100
"""Levels of nesting in an event; half of canonical JSON's bound, so that it fits into a signed request."""


@value_object
class Event:
    """One event of a room, as it stands in the log.

    ``pdu`` is the JSON object and ``raw`` its canonical JSON, exactly as hashed and signed; neither may be
    changed. ``origin_server_ts`` is in milliseconds since the Unix epoch. ``redacted`` says that a content
    hash did not match and this is the redacted copy. ``plain`` is what ``check_json`` said of ``pdu``, None
    if it has not been walked.
    """

    event_id: str
    room_id: str
    type: str
    state_key: str | None
    sender: str
    origin_server_ts: int
    content: JsonObject = field(compare=False, repr=False)
    hub_server: str | None
    auth_events: tuple[str, ...]
    prev_events: tuple[str, ...]
    provenance: JsonObject | None = field(compare=False)
    pdu: JsonObject = field(compare=False, repr=False)
    raw: bytes = field(repr=False)
    redacted: bool = False
    plain: bool | None = field(default=None, compare=False, repr=False)

    @property
    def is_state(self) -> bool:
        """Whether this is a state event (has a ``state_key``, which may be empty)."""
        return self.state_key is not None

    @property
    def imported(self) -> bool:
        """Whether this is history from before a room was bridged."""
        return self.provenance is not None and self.provenance.get("imported") is True


@value_object
class Lpdu:
    """An LPDU of the right shape and size; nothing is known of its hash and its signatures.

    ``pdu`` is the JSON object, which may not be changed, and ``hash`` what it hashes to. ``plain`` is what
    ``check_json`` said of it.
    """

    pdu: JsonObject = field(repr=False)
    hash: str
    plain: bool


def parse_pdu(pdu: JsonObject, version: RoomVersion) -> Event:
    """Read a PDU as received: schema, size, event ID. Signatures and hashes are ``verify_event``'s.

    A top-level ``event_id`` is dropped (some servers add it when serving events), and so is an ``unsigned``
    that the content hash does not cover. The result's ``pdu`` shares its values with the argument, which is
    left alone.

    Raises:
        EventFormatError: anything wrong with the format, including values with no canonical JSON form.
    """
    return parse_signed(pdu, version)[0]


def parse_signed(pdu: JsonObject, version: RoomVersion, *, text: bytes | None = None) -> tuple[Event, bytes]:
    """The same, with the event's ``signed_bytes``, for who checks its signatures next.

    ``text`` is what ``orjson.loads`` made ``pdu`` of, if it has to be the event's ``raw``.

    Raises:
        EventFormatError: as ``parse_pdu``, or ``text`` is another.
    """
    if not isinstance(pdu, dict):
        raise EventFormatError("an event is a JSON object")
    try:
        if text is None:
            plain = check_json(pdu, max_depth=MAX_EVENT_DEPTH)
        else:
            plain = check_decoded(pdu, text, max_depth=MAX_EVENT_DEPTH)
        pdu = _without_event_id(pdu)
        check_pdu_schema(pdu, version)
        pdu = strip_unhashed(pdu, version)
        signed = signed_bytes(pdu, version, plain=plain)
        event = event_of(pdu, version, signed=signed, plain=plain)
    except CanonicalJsonError as error:
        raise EventFormatError(str(error)) from error
    if text is not None and event.raw != text:
        raise EventFormatError("it is not in the form it was signed in")
    return event, signed


def event_of(pdu: JsonObject, version: RoomVersion, *, signed: bytes, plain: bool) -> Event:
    """Make the value of a PDU that was checked in all but its size; ``signed`` is its ``signed_bytes``.

    Raises:
        EventFormatError: it is too large.
        CanonicalJsonError: a string holds a lone surrogate.
    """
    raw = _encode(pdu, plain=plain or version.code_point_order)
    return _event(pdu, raw, event_id_of(signed), plain=plain)


def parse_stored(raw: bytes, version: RoomVersion, event_id: str | None = None) -> Event:
    """Read back the canonical bytes of an event that ``parse_pdu`` once accepted: no schema, no walk.

    ``event_id`` is what the store has for it; without it, it is computed. The result's
    ``redacted`` is False: the bytes do not tell.
    """
    pdu = orjson.loads(raw)
    if event_id is None:
        event_id = event_id_of(signed_bytes(pdu, version))
    return _event(pdu, raw, event_id)


def parse_lpdu(lpdu: JsonObject, version: RoomVersion) -> Lpdu:
    """Read an LPDU as received by a hub: schema, size, hash. A top-level ``event_id`` is dropped, and so
    is an ``unsigned`` that the hash does not cover; ``lpdu`` is left alone.

    Raises:
        EventFormatError: anything wrong with the format, including values with no canonical JSON form.
    """
    if not isinstance(lpdu, dict):
        raise EventFormatError("an LPDU is a JSON object")
    with format_errors():
        lpdu = _without_event_id(lpdu)
        # Its length is the same in whatever order.
        plain = check_decoded(lpdu, _encode(lpdu, plain=True), max_depth=MAX_EVENT_DEPTH)
        check_lpdu_schema(lpdu, version)
        bare = strip_unhashed(lpdu, version)
        return Lpdu(pdu=bare, hash=lpdu_hash(bare, version, plain=plain), plain=plain)


def strip_unhashed(pdu: JsonObject, version: RoomVersion) -> JsonObject:
    """Drop ``unsigned`` from a PDU or LPDU unless its content hash covers it.

    The draft hashes ``unsigned`` like any other field; Matrix servers add and change it after hashing. The
    hash says which of the two was done; in room versions whose hashes never cover it, it always goes. A PDU
    without ``unsigned`` is returned as it is. The schema must have been checked.
    """
    if "unsigned" not in pdu:
        return pdu
    covered = False
    if version.hashes_unsigned:
        hashes = pdu["hashes"]
        if "sha256" in hashes:
            covered = hashes["sha256"] == content_hash(pdu, version)
        else:
            covered = hashes["lpdu"]["sha256"] == lpdu_hash(pdu, version)
    return pdu if covered else {name: value for name, value in pdu.items() if name != "unsigned"}


def redacted_copy(event: Event, version: RoomVersion) -> Event:
    """Give the redacted copy of an event: same ID, marked ``redacted``."""
    pdu = redact(event.pdu, version)
    raw = canonical_json(pdu, code_point_order=version.code_point_order)
    return _event(pdu, raw, event.event_id, redacted=True)


@contextmanager
def format_errors() -> Iterator[None]:
    """Report what has no canonical JSON form as the format error it is here."""
    try:
        yield
    except CanonicalJsonError as error:
        raise EventFormatError(str(error)) from error


def _without_event_id(pdu: JsonObject) -> JsonObject:
    if "event_id" not in pdu:
        return pdu
    return {name: value for name, value in pdu.items() if name != "event_id"}


def _encode(pdu: JsonObject, *, plain: bool) -> bytes:
    raw = encode_checked(pdu, plain=plain)
    if len(raw) > MAX_EVENT_BYTES:
        raise EventFormatError(f"an event of {len(raw)} bytes exceeds {MAX_EVENT_BYTES}")
    return raw


def _event(
    pdu: JsonObject, raw: bytes, event_id: str, *, redacted: bool = False, plain: bool | None = None
) -> Event:
    return Event(
        event_id=event_id,
        room_id=pdu["room_id"],
        type=pdu["type"],
        state_key=pdu.get("state_key"),
        sender=pdu["sender"],
        origin_server_ts=pdu["origin_server_ts"],
        content=pdu["content"],
        hub_server=pdu.get("hub_server"),
        auth_events=tuple(pdu["auth_events"]),
        prev_events=tuple(pdu["prev_events"]),
        provenance=pdu.get("provenance"),
        pdu=pdu,
        raw=raw,
        redacted=redacted,
        plain=plain,
    )
