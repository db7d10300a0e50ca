from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from linearized.exceptions import EventFormatError
from linearized.protocol.events import parse_lpdu, parse_pdu
from tests.protocol.support import (
    ALICE,
    DEV_1,
    I_D_00,
    MATRIX,
    MIMI,
    json_values,
    local_event,
    lpdu,
    participant_event,
    quick,
    vouched_event,
)
from tests.protocol.wire import LPDU_CHANGES, PDU_CHANGES, change

FOLDER = Path(__file__).resolve().parent.parent.parent / "schemas" / "events"
SCHEMAS: dict[str, Any] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
REGISTRY: Registry[Any] = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
)
PDUS = [local_event().pdu, participant_event().pdu, vouched_event().pdu, vouched_event(provenance=MIMI).pdu]


def accepts(name: str, value: object) -> bool:
    return bool(Draft202012Validator(SCHEMAS[name], registry=REGISTRY).is_valid(value))


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_file_is_a_schema_named_after_itself(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$id"].endswith(f"/events/{name}.json")


@pytest.mark.parametrize("pdu", PDUS)
def test_what_we_build_matches(pdu: dict[str, Any]) -> None:
    assert accepts("pdu", pdu)
    assert not accepts("lpdu", pdu)
    assert accepts("lpdu", lpdu())
    assert not accepts("pdu", lpdu())


@pytest.mark.parametrize(("base", "path", "value", "accepted"), PDU_CHANGES)
def test_the_pdu_schema_accepts_what_the_code_accepts(
    base: str, path: str, value: object, accepted: bool
) -> None:
    assert accepts("pdu", change(base, path, value)) == accepted


@pytest.mark.parametrize(("path", "value", "accepted"), LPDU_CHANGES)
def test_the_lpdu_schema_accepts_what_the_code_accepts(path: str, value: object, accepted: bool) -> None:
    assert accepts("lpdu", change("lpdu", path, value)) == accepted


@pytest.mark.parametrize(
    ("server", "accepted"),
    [
        ("a", True),
        ("a.example:65535", True),
        ("a.example:00080", True),
        ("a.example:65536", False),
        ("a.example:123456", False),
        ("1.2.3.4", False),
        ("1.2.3.4:80", False),
        ("1.2.3.4.5", True),
        ("1.2.3.4a", True),
        ("a" * 63 + ("." + "a" * 63) * 3, True),
        ("a" * 63 + ("." + "a" * 63) * 3 + ".a", False),
        ("a" * 64, False),
        ("a_b", False),
    ],
)
def test_server_names_mean_the_same_to_schema_and_code(server: str, accepted: bool) -> None:
    partial = lpdu() | {"hub_server": server}
    assert accepts("lpdu", partial) == accepted
    pdu = participant_event().pdu | {"hub_server": server}
    if accepted:
        assert parse_pdu(pdu, DEV_1).hub_server == server
    else:
        with pytest.raises(EventFormatError):
            parse_pdu(pdu, DEV_1)


@quick
@given(st.sampled_from(PDUS), st.sampled_from([*PDUS[-1], "state_key", "other"]), json_values)
def test_schema_and_code_agree_about_any_value_in_any_field(
    pdu: dict[str, Any], field: str, value: object
) -> None:
    changed = pdu | {field: value}
    try:
        parse_pdu(changed, DEV_1)
    except EventFormatError:
        assert not accepts("pdu", changed)
    else:
        assert accepts("pdu", changed)


EARLY = [
    participant_event(I_D_00).pdu,
    local_event(I_D_00).pdu,
    local_event(I_D_00, type="m.room.create", state_key="", prev_events=[]).pdu,
    lpdu(I_D_00),
]
EARLY_FIELDS = [*EARLY[0], "state_key", "other", "provenance"]


@quick
@given(
    st.sampled_from(EARLY),
    st.sampled_from(EARLY_FIELDS),
    json_values
    | st.sampled_from([[], ["$a"], {"lpdu": {"sha256": "x"}, "sha256": "y"}, {"sha256": "y"}, MATRIX]),
)
def test_schema_and_code_agree_about_the_early_versions(
    pdu: dict[str, Any], field: str, value: object
) -> None:
    changed = pdu | {field: value}
    for name, check in (("early_pdu", parse_pdu), ("early_lpdu", parse_lpdu)):
        try:
            check(changed, I_D_00)
        except EventFormatError:
            assert not accepts(name, changed)
        else:
            assert accepts(name, changed)


@pytest.mark.parametrize("pdu", EARLY)
def test_what_we_build_in_the_early_versions_matches(pdu: dict[str, Any]) -> None:
    assert accepts("early_pdu", pdu) != accepts("early_lpdu", pdu)
    assert not accepts("pdu", pdu)
    assert not accepts("lpdu", pdu)


CONTENTS: list[tuple[str, dict[str, Any], bool]] = [
    ("m.room.create", {"room_version": "I.1"}, True),
    (
        "m.room.create",
        {
            "room_version": "dev.linearized.1",
            "encryption": {"algorithm": "m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519"},
            "dev.linearized.origin": {
                "room_id": "!abc:matrix.example",
                "event_id": "$x",
                "sender": "@a:matrix.example",
            },
        },
        True,
    ),
    ("m.room.create", {}, False),
    ("m.room.create", {"room_version": "I_1"}, False),
    ("m.room.create", {"room_version": "I.1", "encryption": {}}, False),
    ("m.room.create", {"room_version": "I.1", "dev.linearized.origin": {"room_id": "!abc"}}, False),
    (
        "m.room.member",
        {"membership": "knock", "reason": "please", "displayname": None, "avatar_url": "mxc://a/b"},
        True,
    ),
    ("m.room.member", {"membership": "lurk"}, False),
    ("m.room.member", {}, False),
    ("m.room.power_levels", {}, True),
    (
        "m.room.power_levels",
        {"ban": 50, "users": {ALICE: 100}, "events": {"m.room.name": -1}, "invite": 0},
        True,
    ),
    ("m.room.power_levels", {"ban": "50"}, False),
    ("m.room.power_levels", {"kick": True}, False),
    ("m.room.power_levels", {"users": {"alice": 100}}, False),
    ("m.room.power_levels", {"users": {ALICE: 1.5}}, False),
    ("m.room.power_levels", {"events": []}, False),
    ("m.room.join_rules", {"join_rule": "public"}, True),
    ("m.room.join_rules", {"join_rule": "restricted", "allow": [{"type": "m.room_membership"}]}, True),
    ("m.room.join_rules", {"join_rule": "open"}, False),
    ("m.room.join_rules", {}, False),
    ("m.room.history_visibility", {"history_visibility": "shared"}, True),
    ("m.room.history_visibility", {"history_visibility": "some"}, False),
    ("m.room.history_visibility", {}, False),
    (
        "m.mls.commit",
        {
            "message": "AAEC",
            "public_group_state": "AA",
            "prev_commit_event_id": "$a",
            "dev.linearized.initial_group_state": {"group_info": "AA", "ratchet_tree": "+/8"},
        },
        True,
    ),
    ("m.mls.commit", {"dev.linearized.parts": {"count": 2, "sha256": "AA"}}, True),
    ("m.mls.commit", {"dev.linearized.parts": {"count": 0, "sha256": "AA"}}, False),
    ("dev.linearized.mls.commit_part", {"piece": "{"}, True),
    ("dev.linearized.mls.commit_part", {"piece": ""}, False),
    ("m.mls.commit", {"message": "AAEC"}, False),
    ("m.mls.commit", {"message": "AA==", "public_group_state": "AA"}, False),
    ("m.mls.commit", {"message": "AA", "public_group_state": "AA", "prev_commit_event_id": "a"}, False),
    (
        "m.mls.commit",
        {"message": "A", "public_group_state": "A", "dev.linearized.initial_group_state": {}},
        False,
    ),
    ("m.mls.proposal", {"message": "AAEC"}, True),
    ("m.mls.proposal", {}, False),
    ("m.mls.proposal", {"message": "-_8"}, False),
    ("m.room.hub", {"after": "$a"}, True),
    ("m.room.hub", {}, False),
    ("m.room.encrypted", {"algorithm": "m.mls.v1.x", "ciphertext": "AA", "commit_event_id": "$a"}, True),
    ("m.room.encrypted", {"algorithm": "m.mls.v1.x", "ciphertext": "AA"}, False),
    ("m.room.encrypted", {"algorithm": "", "ciphertext": "AA", "commit_event_id": "$a"}, False),
    ("provenance", MATRIX, True),
    ("provenance", MIMI, True),
    ("provenance", MATRIX | MIMI, False),
]


@pytest.mark.parametrize(("name", "content", "accepted"), CONTENTS)
def test_the_schema_of_each_type_s_content(name: str, content: dict[str, Any], accepted: bool) -> None:
    assert accepts(name, content) == accepted


def test_every_schema_has_an_example_for_and_one_against() -> None:
    types = SCHEMAS.keys() - {"common", "pdu", "lpdu", "early_pdu", "early_lpdu"}
    assert types == {name for name, _, accepted in CONTENTS if accepted}
    assert types == {name for name, _, accepted in CONTENTS if not accepted}
