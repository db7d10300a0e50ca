from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.protocol.redaction import redact
from linearized.protocol.versions import ROOM_VERSIONS, RoomVersion
from tests.protocol.support import DEV_1, I_1, MATRIX, MSC3995, json_objects, quick, texts, vouched_event

LEVELS = {
    "ban": 1,
    "events": {},
    "events_default": 2,
    "kick": 3,
    "redact": 4,
    "state_default": 5,
    "users": {},
    "users_default": 6,
    "invite": 7,
}


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("m.room.create", {"room_version": "I.1", "anything": [1]}),
        ("m.room.member", {"membership": "join"}),
        ("m.room.join_rules", {"join_rule": "public"}),
        ("m.room.power_levels", LEVELS),
        ("m.room.history_visibility", {"history_visibility": "shared"}),
        ("m.room.encrypted", {}),
        ("m.mls.commit", {}),
        ("m.room.name", {}),
    ],
)
def test_each_type_keeps_what_the_draft_lists(kind: str, kept: dict[str, Any]) -> None:
    extra = (
        {} if kind == "m.room.create" else {"displayname": "x", "name": "y", "allow": [], "notifications": {}}
    )
    for version in ROOM_VERSIONS.values():
        if version.name == "org.matrix.msc3995" and kind == "m.room.join_rules":
            continue  # below
        assert redact({"type": kind, "content": kept | extra}, version) == {"type": kind, "content": kept}


@pytest.mark.parametrize(
    ("kind", "content", "kept"),
    [
        (
            "m.room.join_rules",
            {"join_rule": "restricted", "allow": [1], "x": 1},
            {"join_rule": "restricted", "allow": [1]},
        ),
        ("m.room.redaction", {"redacts": "$a", "reason": "x"}, {"redacts": "$a"}),
        (
            "m.room.member",
            {"membership": "join", "join_authorised_via_users_server": "@a:b", "displayname": "x"},
            {"membership": "join", "join_authorised_via_users_server": "@a:b"},
        ),
        (
            "m.room.member",
            {"membership": "invite", "third_party_invite": {"signed": {"token": "x"}, "display_name": "y"}},
            {"membership": "invite", "third_party_invite": {"signed": {"token": "x"}}},
        ),
        ("m.room.member", {"third_party_invite": "x"}, {"third_party_invite": "x"}),
        ("m.room.member", {"third_party_invite.signed": "x"}, {}),
        (
            "m.room.create",
            {"room_version": "x", "creator": "@a:b", "more": 1},
            {"room_version": "x", "creator": "@a:b", "more": 1},
        ),
        ("m.room.aliases", {"aliases": []}, {}),
    ],
)
def test_msc3995_redacts_as_matrix_room_version_11(
    kind: str, content: dict[str, Any], kept: dict[str, Any]
) -> None:
    event = {"type": kind, "content": content, "hub_server": "b"}
    redacted = redact(event | {"depth": 1, "origin": "b", "prev_state": [], "membership": "join"}, MSC3995)
    assert redacted == {"type": kind, "content": kept, "hub_server": "b"}


def test_top_level_fields_the_draft_does_not_list_are_stripped() -> None:
    kept = {
        "type": "x",
        "room_id": "!a:b",
        "sender": "@a:b",
        "state_key": "",
        "content": {},
        "origin_server_ts": 1,
        "hashes": {"sha256": "a", "lpdu": {"sha256": "b"}, "other": 1},
        "signatures": {"b": {"ed25519:1": "c"}},
        "prev_events": ["$a"],
        "auth_events": ["$b"],
        "hub_server": "b",
    }
    extra = {"unsigned": {}, "depth": 1, "origin": "b", "redacts": "$x", "event_id": "$y"}
    assert redact(kept | extra, I_1) == kept
    assert redact(kept | extra | {"provenance": MATRIX}, I_1) == kept
    assert redact(kept | extra | {"provenance": MATRIX}, DEV_1) == kept | {"provenance": MATRIX}


def test_a_content_of_no_type_is_left_to_the_schema() -> None:
    kinds: list[object] = [[], None, 5]
    for kind in kinds:
        assert redact({"type": kind, "content": {"a": 1}}, I_1) == {"type": kind, "content": {"a": 1}}


def test_a_transfer_of_the_hub_stays_one_when_redacted() -> None:
    content = {"after": "$a", "takeover": {"hub": "a.example"}, "reason": "x"}
    kept = {"after": "$a", "takeover": {"hub": "a.example"}}
    event = {"type": "m.room.hub", "content": content}
    assert redact(event, DEV_1) == {"type": "m.room.hub", "content": kept}
    assert redact(event, I_1) == {"type": "m.room.hub", "content": {}}


def test_the_argument_is_left_alone() -> None:
    pdu = vouched_event().pdu
    before = repr(pdu)
    redact(pdu, DEV_1)
    assert repr(pdu) == before


@quick
@given(
    st.fixed_dictionaries(
        {}, optional={"type": st.sampled_from(list(I_1.kept_content)) | texts, "content": json_objects}
    )
    | json_objects,
    st.sampled_from(list(ROOM_VERSIONS.values())),
)
def test_redacting_twice_is_redacting_once(pdu: dict[str, Any], version: RoomVersion) -> None:
    once = redact(pdu, version)
    assert redact(once, version) == once
