"""Rooms written straight into the store, for what the hub would take long to produce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from linearized.store.base import EntryRow, MembershipRow, Role, RoomAppend, RoomRow, Store

START_MS = 1_700_000_000_000


def entry(
    room_id: str,
    seq: int,
    event_type: str = "m.room.message",
    *,
    state_key: str | None = None,
    sender: str = "@alice:a.example",
    content: Mapping[str, Any] | None = None,
) -> EntryRow:
    """An entry that nothing will verify."""
    pdu = {"content": dict(content or {}), "sender": sender, "type": event_type}
    return EntryRow(
        room_id=room_id,
        seq=seq,
        event_id=f"${seq}.{room_id}",
        type=event_type,
        state_key=state_key,
        sender=sender,
        origin_server_ts=START_MS + seq,
        epoch=None,
        pdu=orjson.dumps(pdu if state_key is None else {**pdu, "state_key": state_key}),
    )


def member(room_id: str, seq: int, user_id: str, membership: str) -> EntryRow:
    """A membership entry."""
    return entry(room_id, seq, "m.room.member", state_key=user_id, content={"membership": membership})


def visibility(room_id: str, seq: int, value: str) -> EntryRow:
    """A change of history visibility."""
    return entry(
        room_id, seq, "m.room.history_visibility", state_key="", content={"history_visibility": value}
    )


# The people of tests/protocol/fixtures/visibility.json.
PEOPLE = {"bob": "@bob:b.example", "bill": "@bill:b.example", "eve": "@eve:c.example"}


def entries_of(room_id: str, log: Sequence[str]) -> list[EntryRow]:
    """The entries of a case of tests/protocol/fixtures/visibility.json."""
    made: list[EntryRow] = []
    for seq, step in enumerate(log, 1):
        name, _, value = step.partition(" ")
        if name in PEOPLE:
            made.append(member(room_id, seq, PEOPLE[name], value))
        elif name == "visibility":
            made.append(visibility(room_id, seq, value))
        elif name in {"create", "topic"}:
            made.append(entry(room_id, seq, f"m.room.{name}", state_key="", content={"topic": "x"}))
        else:
            kind = "m.mls.commit" if name == "commit" else "m.room.message"
            made.append(entry(room_id, seq, kind, content={"body": "x"}))
    return made


async def append(
    store: Store,
    room_id: str,
    *entries: EntryRow,
    role: Role = Role.HUB,
    memberships: Mapping[str, str] | None = None,
) -> None:
    """Append entries, making the room if it is new; ``memberships`` are set as of the head before them."""
    row = store.room(room_id)
    head = row.head_seq if row is not None else 0
    new = RoomRow(room_id=room_id, version="I.1", role=role, hub="hub.example", head_seq=0, epoch=None)
    await store.append(
        RoomAppend(
            room_id=room_id,
            room=new if row is None else None,
            entries=entries,
            memberships=tuple(
                MembershipRow(room_id=room_id, user_id=user_id, membership=value, seq=head)
                for user_id, value in (memberships or {}).items()
            ),
        )
    )
