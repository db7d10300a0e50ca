from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linearized.exceptions import EventFormatError
from linearized.protocol.canonical import canonical_json
from linearized.protocol.events import (
    MAX_EVENT_BYTES,
    Event,
    parse_lpdu,
    parse_pdu,
    parse_signed,
    parse_stored,
)
from linearized.protocol.hashing import content_hash, event_id_of, lpdu_hash
from linearized.protocol.versions import ROOM_VERSIONS, RoomVersion
from tests.protocol.support import (
    ALICE,
    DEV_1,
    HUB,
    I_1,
    MATRIX,
    MIMI,
    ROOM,
    any_json,
    json_values,
    local_event,
    lpdu,
    participant_event,
    quick,
    vouched_event,
)
from tests.protocol.wire import LPDU_CHANGES, PDU_CHANGES, change

PDUS = [local_event().pdu, participant_event().pdu, vouched_event().pdu]


def test_an_event_gives_its_fields() -> None:
    event = vouched_event(type="m.room.member", state_key="", provenance=MATRIX | {"imported": True})
    assert event.room_id == ROOM
    assert event.type == "m.room.member"
    assert event.state_key == ""
    assert event.sender == "@Mallory Ünique:matrix.example"
    assert event.origin_server_ts == 1_700_000_000_000
    assert event.content["ciphertext"] == "AA"
    assert event.hub_server == HUB.name
    assert event.auth_events == ("$create",)
    assert event.prev_events == ("$before",)
    assert event.provenance == MATRIX | {"imported": True}
    assert event.raw == canonical_json(event.pdu)
    assert not event.redacted


@pytest.mark.parametrize(
    ("event", "is_state", "imported"),
    [
        (local_event(), False, False),
        (local_event(state_key=""), True, False),
        (vouched_event(), False, False),
        (vouched_event(provenance=MIMI), False, False),
        (vouched_event(provenance=MATRIX | {"imported": True}), False, True),
    ],
)
def test_an_event_knows_what_it_is(event: Any, is_state: bool, imported: bool) -> None:
    assert (event.is_state, event.imported) == (is_state, imported)


def test_equal_events_are_equal_and_can_be_kept_in_sets() -> None:
    assert {local_event(), local_event()} == {local_event()}
    assert local_event() != local_event(content={})


def test_a_served_event_id_is_dropped_before_hashing() -> None:
    event = parse_pdu(local_event().pdu | {"event_id": "$lie"}, DEV_1)
    assert event == local_event()
    assert "event_id" not in event.pdu


def test_unsigned_added_after_hashing_is_dropped() -> None:
    for pdu in PDUS:
        event = parse_pdu(pdu | {"unsigned": {"age": 1}}, DEV_1)
        assert event.pdu == pdu


def test_unsigned_that_was_hashed_is_kept() -> None:
    pdu = local_event().pdu | {"unsigned": {"age": 1}}
    pdu = pdu | {"hashes": {"sha256": content_hash(pdu, DEV_1)}}
    assert parse_pdu(pdu, DEV_1).pdu == pdu


def test_unknown_fields_are_kept_because_the_hash_covers_them() -> None:
    pdu = local_event().pdu | {"depth": 12, "org.example": {"x": []}}
    assert parse_pdu(pdu, DEV_1).pdu == pdu


def test_the_argument_is_left_alone() -> None:
    pdu = local_event().pdu | {"event_id": "$lie", "unsigned": {"age": 1}}
    before = deepcopy(pdu)
    parse_pdu(pdu, DEV_1)
    assert pdu == before


@pytest.mark.parametrize("stored", [True, False])
def test_stored_bytes_give_the_same_event_back(stored: bool) -> None:
    for event in (local_event(), participant_event(), vouched_event(state_key="")):
        assert parse_stored(event.raw, DEV_1, event.event_id if stored else None) == event


def test_the_largest_event_has_65536_bytes() -> None:
    overhead = len(local_event(content={"body": ""}).raw)
    fits = "a" * (MAX_EVENT_BYTES - overhead)
    assert len(local_event(content={"body": fits}).raw) == MAX_EVENT_BYTES
    with pytest.raises(EventFormatError, match="65537 bytes"):
        local_event(content={"body": fits + "a"})


def test_an_oversized_lpdu_is_refused() -> None:
    with pytest.raises(EventFormatError, match="exceeds 65536"):
        lpdu(content={"body": "a" * MAX_EVENT_BYTES})


def test_the_size_counts_bytes_not_characters() -> None:
    with pytest.raises(EventFormatError, match="exceeds"):
        local_event(content={"body": "ü" * (MAX_EVENT_BYTES // 2)})


def test_an_event_may_be_nested_a_hundred_levels() -> None:
    value: Any = []
    for _ in range(97):  # the event, its content and the innermost list are three more
        value = [value]
    assert parse_pdu(local_event(content={"a": value}).pdu, DEV_1)
    with pytest.raises(EventFormatError, match="deeper"):
        local_event(content={"a": [value]})


@pytest.mark.parametrize("value", [None, [], "x", 1, b"{}"])
def test_an_event_is_an_object(value: Any) -> None:
    with pytest.raises(EventFormatError):
        parse_pdu(value, DEV_1)
    with pytest.raises(EventFormatError):
        parse_lpdu(value, DEV_1)


@pytest.mark.parametrize(("base", "path", "value", "accepted"), PDU_CHANGES)
def test_the_schema_of_a_pdu(base: str, path: str, value: object, accepted: bool) -> None:
    pdu = change(base, path, value)
    if accepted:
        assert parse_pdu(pdu, DEV_1).pdu == pdu
    else:
        with pytest.raises(EventFormatError):
            parse_pdu(pdu, DEV_1)


@pytest.mark.parametrize(("path", "value", "accepted"), LPDU_CHANGES)
def test_the_schema_of_an_lpdu(path: str, value: object, accepted: bool) -> None:
    partial = change("lpdu", path, value)
    if accepted:
        parse_lpdu(partial, DEV_1)
    else:
        with pytest.raises(EventFormatError):
            parse_lpdu(partial, DEV_1)


def test_provenance_is_for_versions_with_vouched_events() -> None:
    assert parse_pdu(vouched_event().pdu, DEV_1).provenance == MATRIX
    with pytest.raises(EventFormatError, match="provenance"):
        parse_pdu(vouched_event().pdu, I_1)


def test_only_a_create_event_has_no_previous_event() -> None:
    assert local_event(type="m.room.create", state_key="", prev_events=[]).prev_events == ()
    with pytest.raises(EventFormatError, match="prev_events"):
        local_event(prev_events=[])


def test_a_lone_surrogate_is_a_format_error() -> None:
    for field in ("content", "unsigned"):
        with pytest.raises(EventFormatError, match="Unicode"):
            parse_pdu(local_event().pdu | {field: {"a": "\ud800"}}, DEV_1)
    with pytest.raises(EventFormatError, match="Unicode"):
        parse_lpdu(lpdu() | {"content": {"a": "\ud800"}}, DEV_1)


def test_an_lpdu_hash_that_covers_unsigned_is_told_from_one_that_does_not() -> None:
    partial = lpdu() | {"unsigned": {"a": 1}}
    parse_lpdu(partial, DEV_1)
    assert lpdu_hash(partial, DEV_1) != lpdu_hash(lpdu(), DEV_1)


@quick
@given(any_json, st.sampled_from(list(ROOM_VERSIONS.values())))
def test_any_json_gives_an_event_or_the_one_error(value: Any, version: RoomVersion) -> None:
    for function in (parse_pdu, parse_lpdu):
        with pytest.raises(EventFormatError):
            function(value, version)


FIELDS = ["event_id", "unsigned", "provenance", "hub_server", "state_key", *PDUS[0]]


@quick
@given(
    st.sampled_from(PDUS),
    st.sampled_from(FIELDS),
    any_json | json_values,
    st.sampled_from(list(ROOM_VERSIONS.values())),
)
def test_any_value_in_any_field_gives_an_event_or_the_one_error(
    pdu: dict[str, Any], field: str, value: object, version: RoomVersion
) -> None:
    try:
        event = parse_pdu(pdu | {field: value}, version)
    except EventFormatError:
        return
    assert orjson.loads(event.raw) == event.pdu
    assert parse_pdu(event.pdu, version) == event == parse_stored(event.raw, version)
    assert event.sender == ALICE or event.hub_server == HUB.name or field == "sender"


@pytest.mark.parametrize("event", [local_event(), participant_event(), vouched_event()])
def test_an_event_is_read_from_the_text_it_was_signed_in(event: Event) -> None:
    read, signed = parse_signed(orjson.loads(event.raw), DEV_1, text=event.raw)
    assert (read, read.raw) == (event, event.raw)
    assert event_id_of(signed) == event.event_id


@pytest.mark.parametrize(
    "text",
    [
        lambda pdu: orjson.dumps(pdu, option=orjson.OPT_SORT_KEYS) + b" ",
        lambda pdu: orjson.dumps(pdu, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2),
        lambda pdu: orjson.dumps(dict(reversed(pdu.items()))),
        lambda pdu: orjson.dumps(pdu | {"event_id": "$a"}, option=orjson.OPT_SORT_KEYS),
        lambda pdu: canonical_json(pdu).replace(b'"hashes":', b'"auth_events":[],"hashes":', 1),
        lambda pdu: canonical_json(pdu).replace(b"1700000000000", b"1700000000000 ", 1),
        lambda pdu: canonical_json(pdu).replace(b'"type":"m', b'"type":"\\u006d', 1),
        lambda pdu: canonical_json(pdu).replace(b"1700000000000", b"1700000000000.0", 1),
        lambda pdu: canonical_json(pdu).replace(b"1700000000000", b"9007199254740992", 1),
    ],
)
def test_an_event_in_other_text_than_it_was_signed_in_is_refused(
    text: Callable[[dict[str, Any]], bytes],
) -> None:
    data = text(local_event().pdu)
    assert data != local_event().raw
    with pytest.raises(EventFormatError):
        parse_signed(orjson.loads(data), DEV_1, text=data)
