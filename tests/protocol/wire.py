"""Changes to well-formed PDUs and LPDUs, and whether the schema still accepts them.

``test_events.py`` puts them to the code, ``test_schemas.py`` to the JSON Schemas: the two cannot drift apart.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from linearized.protocol.canonical import JsonObject
from tests.protocol.support import MATRIX, MIMI, local_event, lpdu, participant_event, vouched_event

ABSENT = "(absent)"

BASES = {
    "local": local_event().pdu,
    "create": local_event(type="m.room.create", state_key="", prev_events=[]).pdu,
    "participant": participant_event().pdu,
    "vouched": vouched_event().pdu,
    "lpdu": lpdu(),
}


def change(base: str, path: str, value: object) -> JsonObject:
    """A copy of a base object with one value (dotted path) replaced, added, or, with ``ABSENT``, removed."""
    result = deepcopy(BASES[base])
    target: Any = result
    *parents, last = path.split(".")
    for name in parents:
        target = target[name]
    if value == ABSENT:
        target.pop(last, None)
    else:
        target[last] = value
    return result


_EITHER: list[tuple[str, object, bool]] = [
    ("room_id", ABSENT, False),
    ("room_id", "clubhouse:a.example", False),
    ("room_id", "!club house:a.example", False),
    ("room_id", "!clubhouse:1.2.3.4", False),
    ("room_id", "!Club~._-1:a.example:8448", True),
    ("room_id", "!" + "a" * 244 + ":a.example", True),
    ("room_id", "!" + "a" * 245 + ":a.example", False),
    ("type", ABSENT, False),
    ("type", 1, False),
    ("type", "", True),
    ("type", "ü" * 255, True),
    ("type", "ü" * 256, False),
    ("state_key", "", True),
    ("state_key", "😀" * 255, True),
    ("state_key", "a" * 256, False),
    ("state_key", None, False),
    ("state_key", 1, False),
    ("sender", ABSENT, False),
    ("sender", "alice", False),
    ("sender", "@:a.example", False),
    ("sender", "@a\0:a.example", False),
    ("sender", "@Ünder World!:matrix.example", True),
    ("origin_server_ts", ABSENT, False),
    ("origin_server_ts", "1", False),
    ("origin_server_ts", True, False),
    ("origin_server_ts", 1.5, False),
    ("origin_server_ts", 2**53 - 1, True),
    ("origin_server_ts", 2**53, False),
    ("origin_server_ts", -1, True),
    ("content", ABSENT, False),
    ("content", [], False),
    ("content", {"any": [None, {"thing": True}]}, True),
    ("hashes", ABSENT, False),
    ("hashes", [], False),
    ("signatures", ABSENT, False),
    ("signatures", [], False),
    ("signatures", {"a.example": []}, False),
    ("signatures", {"a.example": {"ed25519:1": 1}}, False),
    ("signatures", {"a.example": {"ed25519:1": "x"}, "b.example": {}}, True),
    ("signatures", {}, True),
    ("unknown", {"field": 1}, True),
]

LPDU_CHANGES: list[tuple[str, object, bool]] = [
    *_EITHER,
    ("hub_server", ABSENT, False),
    ("hub_server", "-", False),
    ("hub_server", None, False),
    ("hub_server", "other.example:1", True),
    ("auth_events", [], False),
    ("prev_events", [], False),
    ("provenance", MATRIX, False),
    ("hashes.sha256", "x", False),
    ("hashes.lpdu", ABSENT, False),
    ("hashes.lpdu", "x", False),
    ("hashes.lpdu.sha256", ABSENT, False),
    ("hashes.lpdu.sha256", 1, False),
    ("hashes.lpdu.sha512", "x", True),
    ("hashes", {}, False),
]

_REFERENCES: list[tuple[str, object, bool]] = [
    (field, value, accepted)
    for field in ("auth_events", "prev_events")
    for value, accepted in [
        (ABSENT, False),
        ("$a", False),
        (["a"], False),
        ([1], False),
        (["$a+b"], False),
        (["$a-b_c"], True),
    ]
]

_PROVENANCE: list[tuple[str, object, bool]] = [
    ("provenance", None, False),
    ("provenance", {}, False),
    ("provenance", [], False),
    ("provenance", MATRIX | {"imported": True}, True),
    ("provenance", MATRIX | {"imported": False}, False),
    ("provenance", MATRIX | {"imported": None}, False),
    ("provenance", MATRIX | {"more": 1}, False),
    ("provenance", MATRIX | {"mls": "A" * 43}, False),
    ("provenance", MATRIX | {"provider": "1.2.3.4"}, False),
    ("provenance", MATRIX | {"provider": 1}, False),
    ("provenance", MATRIX | {"protocol": "xmpp"}, False),
    ("provenance", MATRIX | {"event_id": ""}, False),
    ("provenance", MATRIX | {"event_id": "x"}, True),
    ("provenance", MATRIX | {"event_id": "x" * 255}, True),
    ("provenance", MATRIX | {"event_id": "x" * 256}, False),
    ("provenance", MIMI, True),
    ("provenance", MIMI | {"mls": "A" * 42}, False),
    ("provenance", MIMI | {"mls": "A" * 42 + "="}, False),
    ("provenance", MIMI | {"mls": "A" * 42 + "+"}, False),
    ("provenance", MIMI | {"mls": "A" * 43 + "\n"}, False),
    ("provenance", MIMI | {"imported": True}, False),
    ("provenance", {"protocol": "mimi", "provider": "b.example"}, False),
    ("provenance", {"protocol": "matrix", "provider": "b.example"}, False),
    ("provenance", {"protocol": "matrix", "event_id": "$a"}, False),
    ("provenance", ABSENT, True),
    ("provenance.provider", ABSENT, False),
    ("provenance.protocol", ABSENT, False),
    ("hub_server", ABSENT, False),
]

PDU_CHANGES: list[tuple[str, str, object, bool]] = [
    *(("local", *entry) for entry in [*_EITHER, *_REFERENCES]),
    *(("participant", *entry) for entry in [*_EITHER, *_REFERENCES]),
    *(("vouched", *entry) for entry in _PROVENANCE),
    ("local", "auth_events", [], True),
    ("local", "auth_events", ["$a"] * 20, True),
    ("local", "auth_events", ["$a"] * 21, False),
    ("local", "prev_events", ["$a"] * 20, True),
    ("local", "prev_events", ["$a"] * 21, False),
    ("local", "prev_events", [], False),
    ("local", "prev_events", ["$a", "$b"], True),
    ("local", "hashes.sha256", ABSENT, False),
    ("local", "hashes.sha256", 1, False),
    ("local", "hashes.sha512", "x", True),
    ("local", "hashes.lpdu", {"sha256": "x"}, False),
    ("local", "hub_server", "a.example", False),
    ("local", "provenance", MATRIX, False),
    ("create", "prev_events", ["$a"], True),
    ("participant", "hashes.lpdu", ABSENT, False),
    ("participant", "hashes.lpdu", [], False),
    ("participant", "hashes.lpdu.sha256", None, False),
    ("participant", "hashes.sha256", ABSENT, False),
    ("participant", "hub_server", ABSENT, False),
    ("participant", "hub_server", "a..b", False),
    ("participant", "prev_events", [], False),
    ("participant", "prev_events", ["$a", "$b"], False),
]
