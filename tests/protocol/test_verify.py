from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import signedjson.key
import signedjson.sign
from hypothesis import given
from hypothesis import strategies as st

from linearized.exceptions import EventFormatError, HashMismatch, SignatureError
from linearized.protocol.events import Event, parse_lpdu, parse_pdu
from linearized.protocol.hashing import content_hash, lpdu_hash, lpdu_of
from linearized.protocol.redaction import redact
from linearized.protocol.signing import ServerIdentity, SigningKey, sign_json
from linearized.protocol.verify import check_own_name, required_keys, verify_event, verify_lpdu
from tests.protocol.support import (
    BOB,
    DEV_1,
    HUB,
    I_1,
    MATRIX,
    MIMI,
    PARTICIPANT,
    STRANGER,
    json_values,
    key_of,
    local_event,
    lpdu,
    participant_event,
    quick,
    vouched_event,
)

EVENTS = {"local": local_event(), "participant": participant_event(), "vouched": vouched_event()}
PARTICIPANT_KEYS = {PARTICIPANT.key.key_id: PARTICIPANT.key.verify_key}


def verify(event: Event) -> Event:
    return verify_event(event, version=DEV_1, keys=key_of)


def edited(event: Event, **fields: Any) -> Event:
    return parse_pdu(event.pdu | fields, DEV_1)


def resigned(pdu: dict[str, Any], *signers: ServerIdentity) -> Event:
    """The PDU with fresh signatures of the signers over the whole event, all others dropped."""
    signed = redact({name: value for name, value in pdu.items() if name != "signatures"}, DEV_1)
    for signer in signers:
        signed = sign_json(signed, name=signer.name, key=signer.key)
    return parse_pdu(pdu | {"signatures": signed.get("signatures", {})}, DEV_1)


@pytest.mark.parametrize("kind", EVENTS)
def test_what_the_required_servers_signed_is_given_back(kind: str) -> None:
    assert verify(EVENTS[kind]) is EVENTS[kind]


@pytest.mark.parametrize(
    ("kind", "signers"),
    [
        ("local", ((HUB.name, (HUB.key.key_id,)),)),
        (
            "participant",
            ((HUB.name, (HUB.key.key_id,)), (PARTICIPANT.name, (PARTICIPANT.key.key_id,))),
        ),
        ("vouched", ((HUB.name, (HUB.key.key_id,)),)),
    ],
)
def test_the_keys_to_fetch_are_named(kind: str, signers: object) -> None:
    assert required_keys(EVENTS[kind], version=DEV_1) == signers


@pytest.mark.parametrize(
    ("kind", "server"),
    [("local", HUB), ("participant", HUB), ("participant", PARTICIPANT), ("vouched", HUB)],
)
def test_every_required_signature_is_required(kind: str, server: ServerIdentity) -> None:
    event = EVENTS[kind]
    signatures = {name: by_key for name, by_key in event.pdu["signatures"].items() if name != server.name}
    missing = edited(event, signatures=signatures)
    with pytest.raises(SignatureError, match=server.name):
        verify(missing)
    with pytest.raises(SignatureError, match=server.name):
        required_keys(missing, version=DEV_1)
    with pytest.raises(SignatureError, match=server.name):
        verify(edited(event, signatures=signatures | {server.name: {server.key.key_id: "A" * 86}}))
    with pytest.raises(SignatureError, match="known key"):
        verify_event(
            event, version=DEV_1, keys=lambda name, key: None if name == server.name else key_of(name, key)
        )


def test_the_participants_signature_covers_the_lpdu_not_the_event() -> None:
    event = participant_event()
    with pytest.raises(SignatureError, match=PARTICIPANT.name):
        verify(resigned(event.pdu, HUB, PARTICIPANT))


def test_signatures_of_others_do_not_count_right_or_wrong() -> None:
    event = local_event()
    right = sign_json(redact(event.pdu, DEV_1), name=STRANGER.name, key=STRANGER.key)["signatures"]
    wrong = event.pdu["signatures"] | {STRANGER.name: {STRANGER.key.key_id: "nonsense"}}
    assert not verify(edited(event, signatures=right)).redacted
    assert not verify(edited(event, signatures=wrong)).redacted
    with pytest.raises(SignatureError):
        verify(edited(event, signatures={STRANGER.name: right[STRANGER.name]}))


def test_the_hub_cannot_change_what_the_participant_signed() -> None:
    event = participant_event(
        type="m.room.member", state_key="@bob:b.example", content={"membership": "leave"}
    )
    changes: list[dict[str, Any]] = [
        {"content": {"membership": "join"}},
        {"state_key": "@carol:b.example"},
        {"origin_server_ts": 1},
    ]
    for fields in changes:
        pdu = event.pdu | fields
        pdu["hashes"] = {"lpdu": {"sha256": lpdu_hash(pdu, DEV_1)}}
        pdu["hashes"] = pdu["hashes"] | {"sha256": content_hash(pdu, DEV_1)}
        ours = resigned(pdu, HUB).pdu["signatures"]
        with pytest.raises(SignatureError, match=PARTICIPANT.name):
            verify(parse_pdu(pdu | {"signatures": event.pdu["signatures"] | ours}, DEV_1))


@pytest.mark.parametrize("kind", EVENTS)
def test_a_changed_content_gives_the_redacted_copy(kind: str) -> None:
    event = EVENTS[kind]
    changed = edited(event, content={"ciphertext": "BB"})
    verified = verify(changed)
    assert verified.redacted
    assert verified.event_id == changed.event_id == event.event_id
    assert verified.content == {}
    assert verified.pdu == redact(event.pdu, DEV_1)
    assert verified.provenance == event.provenance
    again = parse_pdu(verified.pdu, DEV_1)
    assert verify(again).pdu == verified.pdu


def test_a_wrong_lpdu_hash_alone_gives_the_redacted_copy() -> None:
    event = vouched_event()
    pdu = event.pdu | {"hashes": {"lpdu": {"sha256": "x"}}}
    pdu["hashes"]["sha256"] = content_hash(pdu, DEV_1)
    assert verify(resigned(pdu, HUB)).redacted


def test_a_wrong_content_hash_alone_gives_the_redacted_copy() -> None:
    event = vouched_event()
    assert verify(resigned(event.pdu | {"hashes": event.pdu["hashes"] | {"sha256": "x"}}, HUB)).redacted


def test_a_hub_server_that_is_the_senders_own_signs_once() -> None:
    pdu = local_event().pdu | {"hub_server": HUB.name}
    pdu["hashes"] = {"lpdu": {"sha256": lpdu_hash(pdu, DEV_1)}}
    pdu["hashes"] = pdu["hashes"] | {"sha256": content_hash(pdu, DEV_1)}
    event = resigned(pdu, HUB)
    assert required_keys(event, version=DEV_1) == ((HUB.name, (HUB.key.key_id,)),)
    assert verify(event) is event


def test_a_matrix_server_speaks_for_its_own_users_only() -> None:
    with pytest.raises(SignatureError, match="provenance"):
        verify(vouched_event(provenance=MATRIX | {"provider": "c.example"}))


def test_a_mimi_provider_may_serve_another_domain() -> None:
    event = vouched_event(provenance=MIMI | {"provider": HUB.name})
    assert verify(event) is event


def test_provenance_is_signed() -> None:
    with pytest.raises(SignatureError, match="wrong"):
        verify(edited(vouched_event(), provenance=MATRIX | {"imported": True}))


def test_a_rotated_key_is_found_by_its_id() -> None:
    new = SigningKey.generate("new", b"n" * 32)
    rotated = ServerIdentity(HUB.name, new)
    event = resigned(local_event().pdu, HUB, rotated)
    assert required_keys(event, version=DEV_1) == ((HUB.name, (HUB.key.key_id, new.key_id)),)
    assert verify(event) is event
    only_new = {(HUB.name, new.key_id): new.verify_key}
    assert verify_event(event, version=DEV_1, keys=lambda *name: only_new.get(name)) is event


def test_signedjson_agrees_with_the_signatures_on_an_event() -> None:
    event = participant_event()
    for signer, covered in ((HUB, event.pdu), (PARTICIPANT, lpdu_of(event.pdu))):
        (theirs,) = signedjson.key.read_signing_keys([signer.key.to_line()])
        signedjson.sign.verify_signed_json(
            redact(covered, DEV_1), signer.name, signedjson.key.get_verify_key(theirs)
        )


def test_an_lpdu_of_its_sender_s_server_is_accepted() -> None:
    for version in (I_1, DEV_1):
        verify_lpdu(
            parse_lpdu(lpdu(version), version),
            version=version,
            origin=PARTICIPANT.name,
            keys=PARTICIPANT_KEYS,
        )


def test_an_lpdu_of_another_server_s_user_is_refused() -> None:
    with pytest.raises(SignatureError, match="not a user of"):
        verify_lpdu(parse_lpdu(lpdu(), DEV_1), version=DEV_1, origin=STRANGER.name, keys=PARTICIPANT_KEYS)


def test_an_lpdu_without_its_server_s_signature_is_refused() -> None:
    for signatures in ({}, {PARTICIPANT.name: {PARTICIPANT.key.key_id: "A" * 86}}):
        with pytest.raises(SignatureError):
            verify_lpdu(
                parse_lpdu(lpdu() | {"signatures": signatures}, DEV_1),
                version=DEV_1,
                origin=PARTICIPANT.name,
                keys=PARTICIPANT_KEYS,
            )


def test_an_lpdu_whose_hash_does_not_match_is_refused() -> None:
    with pytest.raises(HashMismatch):
        verify_lpdu(
            parse_lpdu(lpdu() | {"content": {}}, DEV_1),
            version=DEV_1,
            origin=PARTICIPANT.name,
            keys=PARTICIPANT_KEYS,
        )


def test_a_pdu_is_no_lpdu() -> None:
    with pytest.raises(EventFormatError):
        parse_lpdu(participant_event().pdu, DEV_1)


def test_unsigned_in_an_lpdu_is_read_with_or_without_being_hashed() -> None:
    partial = lpdu() | {"unsigned": {"age": 1}}
    verify_lpdu(parse_lpdu(partial, DEV_1), version=DEV_1, origin=PARTICIPANT.name, keys=PARTICIPANT_KEYS)
    partial["hashes"] = {"lpdu": {"sha256": lpdu_hash(partial, DEV_1)}}
    signed = sign_json(redact(partial, DEV_1), name=PARTICIPANT.name, key=PARTICIPANT.key)["signatures"]
    partial["signatures"] = signed
    verify_lpdu(parse_lpdu(partial, DEV_1), version=DEV_1, origin=PARTICIPANT.name, keys=PARTICIPANT_KEYS)


@quick
@given(st.sampled_from(list(EVENTS)), st.data())
def test_no_change_of_any_field_passes_unnoticed(kind: str, data: st.DataObject) -> None:
    event = EVENTS[kind]
    field = data.draw(st.sampled_from([*event.pdu, "state_key", "depth"]))
    value = data.draw(json_values)
    changed = deepcopy(event.pdu) | {field: value}
    try:
        verified = verify(parse_pdu(changed, DEV_1))
    except (EventFormatError, SignatureError):
        return
    assert verified.redacted or verified == event
    assert verified.event_id == event.event_id


@pytest.mark.parametrize(
    ("kind", "provenance", "allowed"),
    [
        ("m.room.name", MIMI, False),
        ("m.room.history_visibility", MIMI, False),
        ("m.room.message", MIMI, False),
        ("m.room.member", {**MATRIX, "provider": "b.example"}, False),
        ("m.room.encrypted", {**MATRIX, "provider": "b.example"}, False),
        ("m.room.message", {**MATRIX, "provider": "b.example", "imported": True}, True),
        ("m.mls.commit", MIMI, True),
        ("dev.linearized.mls.commit_part", MIMI, True),
        ("m.mls.proposal", MIMI, True),
        ("m.room.encrypted", MIMI, True),
        ("m.room.member", MIMI, True),
        ("m.room.power_levels", MIMI, True),
        ("m.room.join_rules", MIMI, True),
    ],
)
def test_a_hub_vouches_for_no_more_in_our_users_names_than_follows_from_what_they_sent(
    kind: str, provenance: dict[str, Any], allowed: bool
) -> None:
    event = vouched_event(type=kind, sender=BOB, provenance=provenance)
    check_own_name(event, "a.example")
    if allowed:
        check_own_name(event, "b.example")
        return
    with pytest.raises(SignatureError, match=r"b\.example has not signed"):
        check_own_name(event, "b.example")


def test_what_we_have_signed_is_our_users() -> None:
    check_own_name(participant_event(), "b.example")
    check_own_name(local_event(), "a.example")
