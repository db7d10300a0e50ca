"""What the room versions of drafts 00 and 01 and of MSC3995 do otherwise, on the wire."""

from __future__ import annotations

import hashlib
from typing import Any

import canonicaljson
import pytest

from linearized.exceptions import EventFormatError, SignatureError
from linearized.protocol.base64 import encode_base64, encode_base64url
from linearized.protocol.build import complete_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event, parse_lpdu, parse_pdu, parse_stored
from linearized.protocol.hashing import lpdu_hash, lpdu_identity
from linearized.protocol.redaction import redact
from linearized.protocol.signing import sign_json
from linearized.protocol.verify import required_keys, verify_event, verify_lpdu
from linearized.protocol.versions import RoomVersion
from tests.protocol.support import (
    BOB,
    HUB,
    I_1,
    I_D_00,
    MSC3995,
    PARTICIPANT,
    STRANGER,
    key_of,
    local_event,
    lpdu,
    participant_event,
    trusted,
)

EARLY = pytest.mark.parametrize("version", [I_D_00, MSC3995], ids=lambda version: version.name)
KEYS = {PARTICIPANT.key.key_id: PARTICIPANT.key.verify_key}


def verify(event: Event, version: RoomVersion) -> Event:
    return verify_event(event, version=version, keys=key_of)


def oracle(obj: JsonObject, *left_out: str) -> bytes:
    """SHA-256 over what canonicaljson makes of an object without some fields."""
    covered = {name: value for name, value in obj.items() if name not in left_out}
    return hashlib.sha256(canonicaljson.encode_canonical_json(covered)).digest()


@EARLY
def test_an_lpdu_has_no_hashes(version: RoomVersion) -> None:
    partial = lpdu(version)
    assert "hashes" not in partial
    verify_lpdu(parse_lpdu(partial, version), version=version, origin=PARTICIPANT.name, keys=KEYS)
    with pytest.raises(EventFormatError, match="hashes"):
        parse_lpdu(lpdu(I_1), version)
    with pytest.raises(EventFormatError, match="hashes"):
        parse_lpdu(partial, I_1)


@EARLY
def test_the_hub_adds_the_one_content_hash_and_its_signature(version: RoomVersion) -> None:
    event = participant_event(version)
    assert event.pdu["hashes"] == {"sha256": encode_base64(oracle(event.pdu, "signatures", "hashes"))}
    assert required_keys(event, version=version) == (
        (HUB.name, (HUB.key.key_id,)),
        (PARTICIPANT.name, (PARTICIPANT.key.key_id,)),
    )
    assert verify(event, version) is event
    assert event.event_id == "$" + encode_base64url(oracle(redact(event.pdu, version), "signatures"))


@EARLY
def test_a_hub_names_itself_in_its_own_users_events_too(version: RoomVersion) -> None:
    event = local_event(version)
    assert event.hub_server == HUB.name
    assert required_keys(event, version=version) == ((HUB.name, (HUB.key.key_id,)),)
    assert verify(event, version) is event
    create = local_event(version, type="m.room.create", state_key="", prev_events=[], auth_events=[])
    assert (create.hub_server, create.prev_events) == (HUB.name, ())


@EARLY
def test_an_event_that_names_no_hub_is_read_all_the_same(version: RoomVersion) -> None:
    pdu = local_event(I_1).pdu
    assert verify(parse_pdu(pdu, version), version).hub_server is None


@EARLY
def test_an_lpdu_hash_in_an_event_is_refused(version: RoomVersion) -> None:
    with pytest.raises(EventFormatError, match="lpdu"):
        parse_pdu(participant_event(I_1).pdu, version)
    with pytest.raises(EventFormatError, match="lpdu"):
        parse_pdu(participant_event(version).pdu, I_1)


@EARLY
def test_the_participants_signature_covers_what_redaction_keeps_and_no_more(version: RoomVersion) -> None:
    partial = lpdu(
        version, type="m.room.member", state_key=BOB, content={"membership": "join", "displayname": "B"}
    )
    renamed = partial | {"content": {"membership": "join", "displayname": "Mallory"}}
    # "This means a participant server can't currently protect its event contents" (MSC3995).
    verify_lpdu(parse_lpdu(renamed, version), version=version, origin=PARTICIPANT.name, keys=KEYS)
    with pytest.raises(SignatureError):
        verify_lpdu(
            parse_lpdu(partial | {"content": {"membership": "leave"}}, version),
            version=version,
            origin=PARTICIPANT.name,
            keys=KEYS,
        )


@EARLY
def test_what_the_hub_signed_cannot_be_changed_after_it(version: RoomVersion) -> None:
    event = participant_event(version)
    changed = verify(parse_pdu(event.pdu | {"content": {}}, version), version)
    assert (changed.redacted, changed.event_id) == (True, event.event_id)


@EARLY
def test_unsigned_is_never_hashed_and_never_kept(version: RoomVersion) -> None:
    event = participant_event(version)
    read = parse_pdu(event.pdu | {"unsigned": {"age": 1}}, version)
    assert read == event
    partial = lpdu(version) | {"unsigned": {"age": 1}}
    verify_lpdu(parse_lpdu(partial, version), version=version, origin=PARTICIPANT.name, keys=KEYS)
    completed = complete_lpdu(
        trusted(partial, version),
        identity=HUB,
        version=version,
        auth_events=["$create"],
        prev_events=["$before"],
    )
    assert completed == event


@EARLY
def test_an_lpdu_is_recognised_in_its_event(version: RoomVersion) -> None:
    assert lpdu_identity(lpdu(version), version) == lpdu_identity(participant_event(version).pdu, version)
    assert lpdu_identity(lpdu(version), version) == lpdu_hash(lpdu(version), version)
    assert lpdu_identity(lpdu(I_1), I_1) == lpdu(I_1)["hashes"]["lpdu"]["sha256"]


ASTRAL = {"\U0001f600": 1, "\ue000": 2}


def test_msc3995_sorts_keys_by_code_point_and_the_drafts_by_utf16_unit() -> None:
    for version, first in ((MSC3995, "\ue000"), (I_D_00, "\U0001f600"), (I_1, "\U0001f600")):
        event = local_event(version, type="m.room.create", state_key="", prev_events=[], content=ASTRAL)
        content = event.raw.decode().partition('"content":{"')[2]
        assert content.startswith(first)
        assert verify(event, version) is event
        assert parse_stored(event.raw, version) == event
    of_matrix = local_event(MSC3995, content=ASTRAL)
    assert of_matrix.pdu["hashes"]["sha256"] == encode_base64(oracle(of_matrix.pdu, "signatures", "hashes"))
    assert verify(parse_pdu(of_matrix.pdu, I_D_00), I_D_00).redacted


def authorised(user_id: object, *signers: Any) -> Event:
    """A join into a restricted room by the word of a user."""
    content = {"membership": "join", "join_authorised_via_users_server": user_id}
    event = participant_event(MSC3995, type="m.room.member", state_key=BOB, content=content)
    pdu = event.pdu
    for signer in signers:
        signed = sign_json(redact(pdu, MSC3995), name=signer.name, key=signer.key)
        pdu = pdu | {"signatures": signed["signatures"]}
    return parse_pdu(pdu, MSC3995)


def test_a_restricted_join_is_signed_by_the_server_that_let_the_user_in() -> None:
    event = authorised("@carol:c.example", STRANGER)
    assert [server for server, _ in required_keys(event, version=MSC3995)] == [
        HUB.name,
        STRANGER.name,
        PARTICIPANT.name,
    ]
    assert verify(event, MSC3995) is event
    with pytest.raises(SignatureError, match=STRANGER.name):
        verify(authorised("@carol:c.example"), MSC3995)


def test_the_hub_signs_once_for_its_user_who_let_somebody_in() -> None:
    event = authorised("@alice:a.example")
    assert verify(event, MSC3995) is event


def test_a_restricted_join_by_the_word_of_nobody_is_refused() -> None:
    with pytest.raises(SignatureError, match="no user"):
        verify(authorised("carol"), MSC3995)


def test_a_join_by_nobodys_word_needs_nobody_elses_signature() -> None:
    event = participant_event(MSC3995, type="m.room.member", state_key=BOB, content={"membership": "join"})
    assert verify(event, MSC3995) is event


@EARLY
def test_only_a_first_event_through_a_hub_has_no_event_before_it(version: RoomVersion) -> None:
    create = local_event(version, type="m.room.create", state_key="", prev_events=[], auth_events=[]).pdu
    assert parse_pdu(create, version).prev_events == ()
    message = local_event(version).pdu
    for pdu in (message | {"prev_events": []}, create | {"prev_events": ["$a", "$b"]}):
        with pytest.raises(EventFormatError, match="prev_events"):
            parse_pdu(pdu, version)
    # Later versions' create events go through no hub.
    completed = participant_event(I_1, type="m.room.create", state_key="").pdu
    assert parse_pdu(completed, I_1)
    with pytest.raises(EventFormatError, match="prev_events"):
        parse_pdu(completed | {"prev_events": []}, I_1)


def test_elsewhere_that_field_asks_for_no_signature() -> None:
    content = {"membership": "join", "join_authorised_via_users_server": "@carol:c.example"}
    event = participant_event(I_1, type="m.room.member", state_key=BOB, content=content)
    assert verify(event, I_1) is event
    message = participant_event(MSC3995, content=content)
    assert verify(message, MSC3995) is message


@pytest.mark.parametrize(
    ("field", "longest", "longer"),
    [
        ("type", "ü" * 127 + "x", "ü" * 128),
        ("state_key", "ü" * 127 + "x", "ü" * 128),
        ("sender", "@" + "ü" * 122 + ":b.example", "@" + "ü" * 122 + "x:b.example"),
    ],
)
def test_msc3995_counts_bytes_where_the_drafts_count_characters(
    field: str, longest: str, longer: str
) -> None:
    pdu = participant_event(MSC3995).pdu
    assert len(longest.encode()) in {254, 255}
    assert parse_pdu(pdu | {field: longest}, MSC3995)
    with pytest.raises(EventFormatError, match=field):
        parse_pdu(pdu | {field: longer}, MSC3995)
    assert parse_pdu(pdu | {field: longer}, I_D_00)


def test_a_lone_surrogate_is_a_format_error_there_too() -> None:
    with pytest.raises(EventFormatError):
        parse_pdu(participant_event(MSC3995).pdu | {"type": "\ud800"}, MSC3995)
