from __future__ import annotations

from typing import Any

import pytest

from linearized.exceptions import EventFormatError
from linearized.protocol.build import build_event, complete_lpdu
from linearized.protocol.hashing import content_hash, lpdu_hash
from linearized.protocol.verify import verify_event
from linearized.protocol.versions import ROOM_VERSIONS
from tests.protocol.support import (
    BOB,
    DEV_1,
    HUB,
    I_1,
    MATRIX,
    MESSAGE,
    MIMI,
    PARTICIPANT,
    key_of,
    local_event,
    lpdu,
    participant_event,
    trusted,
    vouched_event,
)


def test_an_event_of_our_own_user_has_one_signature_and_in_newer_versions_no_hub_server() -> None:
    for version in ROOM_VERSIONS.values():
        event = local_event(version)
        assert (event.hub_server is None) != version.hub_server_always
        assert event.provenance is None
        assert event.pdu["hashes"].keys() == {"sha256"}
        assert {name: set(by_key) for name, by_key in event.pdu["signatures"].items()} == {
            HUB.name: {HUB.key.key_id}
        }


def test_a_vouched_for_event_says_so_and_has_only_the_hubs_signature() -> None:
    for provenance in (MATRIX, MATRIX | {"imported": True}, MIMI):
        event = vouched_event(provenance=provenance)
        assert event.hub_server == HUB.name
        assert event.provenance == provenance
        assert event.pdu["hashes"].keys() == {"lpdu", "sha256"}
        assert event.pdu["signatures"].keys() == {HUB.name}


def test_an_lpdu_has_what_the_draft_lets_a_participant_set() -> None:
    partial = lpdu(state_key="")
    assert partial.keys() == {
        "room_id",
        "type",
        "state_key",
        "sender",
        "origin_server_ts",
        "hub_server",
        "content",
        "hashes",
        "signatures",
    }
    assert partial["signatures"].keys() == {PARTICIPANT.name}


def test_the_hub_adds_its_fields_hash_and_signature_to_an_lpdu() -> None:
    partial = lpdu()
    before = repr(partial)
    event = complete_lpdu(
        trusted(partial), identity=HUB, version=DEV_1, auth_events=["$a"], prev_events=["$b"]
    )
    assert repr(partial) == before
    assert event.auth_events == ("$a",)
    assert event.prev_events == ("$b",)
    assert event.pdu["hashes"] == partial["hashes"] | {"sha256": content_hash(event.pdu, DEV_1)}
    assert event.pdu["signatures"][PARTICIPANT.name] == partial["signatures"][PARTICIPANT.name]
    assert event.pdu["signatures"].keys() == {HUB.name, PARTICIPANT.name}
    rest = {"auth_events", "prev_events", "hashes", "signatures"}
    assert {k: v for k, v in event.pdu.items() if k not in rest} == {
        k: v for k, v in partial.items() if k not in rest
    }


def test_unsigned_the_participant_added_after_hashing_does_not_reach_the_log() -> None:
    partial = lpdu()
    event = complete_lpdu(
        trusted(partial | {"unsigned": {"age": 1}}),
        identity=HUB,
        version=DEV_1,
        auth_events=["$create"],
        prev_events=["$before"],
    )
    assert event == participant_event()


def test_unsigned_the_participant_hashed_stays() -> None:
    partial = lpdu() | {"unsigned": {"age": 1}}
    partial["hashes"] = {"lpdu": {"sha256": lpdu_hash(partial, DEV_1)}}
    event = complete_lpdu(
        trusted(partial), identity=HUB, version=DEV_1, auth_events=["$a"], prev_events=["$b"]
    )
    assert event.pdu["unsigned"] == {"age": 1}


@pytest.mark.parametrize("sender", [BOB, "nobody", "@alice:A.EXAMPLE"])
def test_a_sender_who_is_not_ours_needs_provenance(sender: str) -> None:
    with pytest.raises(EventFormatError, match="sender"):
        local_event(sender=sender)


def test_provenance_cannot_be_given_in_a_version_without_it() -> None:
    with pytest.raises(EventFormatError, match="provenance"):
        build_event(identity=HUB, version=I_1, **(MESSAGE | {"provenance": MATRIX}))


def test_a_create_event_cannot_be_vouched_for() -> None:
    with pytest.raises(EventFormatError, match="prev_events"):
        vouched_event(type="m.room.create", state_key="", prev_events=[])


BAD: list[dict[str, Any]] = [
    {"content": {"a": 1.5}},
    {"content": {"a": "\ud800"}},
    {"content": "text"},
    {"room_id": "nowhere"},
    {"type": "x" * 256},
    {"origin_server_ts": 2**60},
    {"state_key": "x" * 256},
]


@pytest.mark.parametrize("fields", BAD)
def test_what_does_not_match_the_schema_cannot_be_built(fields: dict[str, Any]) -> None:
    for make in (local_event, vouched_event, lpdu):
        with pytest.raises(EventFormatError):
            make(**fields)


@pytest.mark.parametrize(
    "fields", [{"auth_events": ["x"]}, {"prev_events": []}, {"prev_events": ["$a", "$b"]}]
)
def test_an_lpdu_cannot_be_completed_with_malformed_references(fields: dict[str, Any]) -> None:
    references = {"auth_events": ["$a"], "prev_events": ["$b"]} | fields
    with pytest.raises(EventFormatError):
        complete_lpdu(trusted(lpdu()), identity=HUB, version=DEV_1, **references)


def test_an_lpdu_for_another_hub_cannot_be_completed() -> None:
    with pytest.raises(EventFormatError, match="another hub"):
        complete_lpdu(
            trusted(lpdu(hub_server="c.example")),
            identity=HUB,
            version=DEV_1,
            auth_events=["$a"],
            prev_events=["$b"],
        )


def test_only_an_lpdu_can_be_completed() -> None:
    with pytest.raises(EventFormatError):
        trusted(local_event().pdu)


def test_what_we_build_verifies_in_every_version() -> None:
    for version in ROOM_VERSIONS.values():
        for event in (local_event(version), participant_event(version)):
            assert verify_event(event, version=version, keys=key_of) is event
    assert not verify_event(vouched_event(), version=DEV_1, keys=key_of).redacted
