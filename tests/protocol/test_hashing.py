from __future__ import annotations

import hashlib
from typing import Any

import canonicaljson
from hypothesis import given
from hypothesis import strategies as st

from linearized.protocol.base64 import encode_base64, encode_base64url
from linearized.protocol.events import Event
from linearized.protocol.hashing import content_hash, event_id, lpdu_hash, lpdu_identity, lpdu_of
from linearized.protocol.redaction import redact
from linearized.protocol.signing import sign_json
from tests.protocol.support import (
    DEV_1,
    I_1,
    I_D_00,
    MSC3995,
    STRANGER,
    json_objects,
    local_event,
    lpdu,
    participant_event,
    quick,
    vouched_event,
)


def oracle(obj: dict[str, Any]) -> bytes:
    """SHA-256 over what canonicaljson makes of an object."""
    return hashlib.sha256(canonicaljson.encode_canonical_json(obj)).digest()


def without(obj: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {name: value for name, value in obj.items() if name not in fields}


def test_an_lpdu_hash_covers_all_but_signatures_and_hashes() -> None:
    partial = lpdu()
    assert partial["hashes"] == {
        "lpdu": {"sha256": encode_base64(oracle(without(partial, "signatures", "hashes")))}
    }


def test_the_hub_finds_the_lpdu_inside_its_event() -> None:
    event = participant_event()
    assert lpdu_of(event.pdu) == lpdu() | {"signatures": event.pdu["signatures"]}
    assert lpdu_hash(event.pdu, DEV_1) == lpdu_hash(lpdu(), DEV_1) == event.pdu["hashes"]["lpdu"]["sha256"]


def test_a_content_hash_covers_the_lpdu_hash() -> None:
    event = participant_event()
    covered = without(event.pdu, "signatures") | {"hashes": {"lpdu": event.pdu["hashes"]["lpdu"]}}
    assert event.pdu["hashes"]["sha256"] == encode_base64(oracle(covered)) == content_hash(event.pdu, DEV_1)


def test_without_an_lpdu_hash_a_content_hash_covers_no_hashes_field() -> None:
    event = local_event()
    assert event.pdu["hashes"] == {
        "sha256": encode_base64(oracle(without(event.pdu, "signatures", "hashes")))
    }
    assert content_hash(without(event.pdu, "hashes"), DEV_1) == content_hash(event.pdu, DEV_1)


def test_unsigned_is_hashed_in_the_versions_that_say_so() -> None:
    for version, covered in ((I_1, True), (DEV_1, True), (I_D_00, False), (MSC3995, False)):
        event = participant_event(version)
        more = event.pdu | {"unsigned": {"age": 1}}
        assert (content_hash(more, version) != content_hash(event.pdu, version)) is covered
        assert (lpdu_hash(more, version) != lpdu_hash(event.pdu, version)) is covered


def test_only_versions_with_lpdu_hashes_cover_them() -> None:
    for version, covered in ((I_1, True), (DEV_1, True), (I_D_00, False), (MSC3995, False)):
        pdu = participant_event(version).pdu
        other = pdu | {"hashes": {"lpdu": {"sha256": "other"}}}
        assert (content_hash(other, version) != content_hash(pdu, version)) is covered


def test_what_an_lpdu_is_known_by_is_the_hash_it_carries() -> None:
    event = participant_event()
    assert lpdu_identity(redact(event.pdu, DEV_1), DEV_1) == lpdu_identity(event.pdu, DEV_1)
    early = participant_event(I_D_00)
    assert lpdu_identity(early.pdu, I_D_00) == lpdu_hash(early.pdu, I_D_00)


def test_an_event_id_is_the_reference_hash_of_the_redacted_event() -> None:
    event = vouched_event()
    covered = without(redact(event.pdu, DEV_1), "signatures")
    assert event.event_id == "$" + encode_base64url(oracle(covered)) == event_id(event.pdu, DEV_1)


def test_the_event_id_of_a_known_event_never_changes() -> None:
    # Computed once with canonicaljson and hashlib; a change here splits rooms.
    assert local_event().event_id == "$tDkbFvexmkWEvIlYbLqIR5F_Psf9cBDsrDgSLBR7E4o"
    assert participant_event().event_id == "$A13HaGoRQ0JUFd0cnnFjsDOAGC-gfgZmuo1-nldZiIo"
    assert vouched_event().event_id == "$H7KwkVD8hRZb5RQh1cEzlpG6SduRClT9HBwCj4-2ZNA"


@quick
@given(st.sampled_from([local_event(), participant_event(), vouched_event()]), json_objects)
def test_signatures_and_redaction_leave_the_event_id_alone(event: Event, unsigned: dict[str, Any]) -> None:
    signed = sign_json(event.pdu, name=STRANGER.name, key=STRANGER.key)
    assert event_id(signed, DEV_1) == event.event_id
    assert event_id(redact(event.pdu, DEV_1), DEV_1) == event.event_id
    assert event_id(event.pdu | {"unsigned": unsigned}, DEV_1) == event.event_id


@quick
@given(json_objects)
def test_the_content_decides_the_event_id_through_its_hash(content: dict[str, Any]) -> None:
    event = local_event(content=content)
    assert (event.event_id == local_event(content={}).event_id) == (content == {})
