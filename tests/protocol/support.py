"""A hub, a participant and a stranger with fixed keys, and the strategies of the property tests."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from linearized.protocol.build import build_event, build_lpdu, complete_lpdu
from linearized.protocol.canonical import MAX_INTEGER, JsonObject
from linearized.protocol.events import Event, parse_lpdu
from linearized.protocol.signing import ServerIdentity, SigningKey
from linearized.protocol.verify import VerifiedLpdu
from linearized.protocol.versions import ROOM_VERSIONS, RoomVersion

quick = settings(max_examples=60, derandomize=True, deadline=None)
"""The same examples on every run, few enough for the whole folder to take seconds."""

I_1 = ROOM_VERSIONS["I.1"]
I_D_00 = ROOM_VERSIONS["org.matrix.i-d.ralston-mimi-linearized-matrix.00"]
MSC3995 = ROOM_VERSIONS["org.matrix.msc3995"]
DEV_1 = ROOM_VERSIONS["dev.linearized.1"]

HUB = ServerIdentity("a.example", SigningKey.generate("hub", b"a" * 32))
PARTICIPANT = ServerIdentity("b.example", SigningKey.generate("part", b"b" * 32))
STRANGER = ServerIdentity("c.example", SigningKey.generate("str", b"c" * 32))

ROOM = "!clubhouse:a.example"
ALICE = "@alice:a.example"
BOB = "@bob:b.example"
MATRIX_USER = "@Mallory Ünique:matrix.example"

MATRIX = {"protocol": "matrix", "provider": "matrix.example", "event_id": "$orig"}
MIMI = {"protocol": "mimi", "provider": "b.example", "mls": "A" * 43}


def key_of(server: str, key_id: str) -> bytes | None:
    """The lookup ``verify_event`` takes, for the three servers above."""
    for identity in (HUB, PARTICIPANT, STRANGER):
        if (identity.name, identity.key.key_id) == (server, key_id):
            return identity.key.verify_key
    return None


def local_event(version: RoomVersion = DEV_1, **fields: Any) -> Event:
    """An event of one of the hub's own users."""
    return build_event(identity=HUB, version=version, **(MESSAGE | fields))


def vouched_event(**fields: Any) -> Event:
    """An event the hub vouches for."""
    return local_event(**({"sender": MATRIX_USER, "provenance": MATRIX} | fields))


def lpdu(version: RoomVersion = DEV_1, **fields: Any) -> JsonObject:
    """What the participant sends the hub."""
    base = {name: value for name, value in MESSAGE.items() if name not in {"auth_events", "prev_events"}}
    fields = base | {"sender": BOB, "hub_server": HUB.name} | fields
    return build_lpdu(identity=PARTICIPANT, version=version, **fields)


def trusted(pdu: JsonObject, version: RoomVersion = DEV_1) -> VerifiedLpdu:
    """An LPDU as if its signature and hash had been checked."""
    return VerifiedLpdu(lpdu=parse_lpdu(pdu, version), origin=PARTICIPANT.name)


def participant_event(version: RoomVersion = DEV_1, **fields: Any) -> Event:
    """The same, completed by the hub."""
    return complete_lpdu(
        trusted(lpdu(version, **fields), version),
        identity=HUB,
        version=version,
        auth_events=["$create"],
        prev_events=["$before"],
    )


MESSAGE: dict[str, Any] = {
    "room_id": ROOM,
    "type": "m.room.encrypted",
    "sender": ALICE,
    "content": {"algorithm": "m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519", "ciphertext": "AA"},
    "origin_server_ts": 1_700_000_000_000,
    "auth_events": ["$create"],
    "prev_events": ["$before"],
}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
json_values = st.recursive(
    st.none() | st.booleans() | integers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(texts, json_values, max_size=4)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
"""Also what is not allowed: floats, huge integers, lone surrogates."""
