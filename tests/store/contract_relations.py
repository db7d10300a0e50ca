"""The part of the contract about relations."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from linearized.store.base import EntryRow, Role, RoomAppend, Store
from linearized.store.moving import Adoption
from linearized.store.receipts import ReceiptRow
from tests.store.rows import BOB, OTHER_ROOM, ROOM, entry, event_id, new_room, room


def related(seq: int, parent: int, kind: str = "m.thread", *, room_id: str = ROOM) -> EntryRow:
    relation = {"event_id": event_id(ROOM, parent), "rel_type": kind}
    return entry(seq, room_id=room_id, content={"m.relates_to": relation})


def redaction(seq: int, target: int) -> EntryRow:
    pdu = {"content": {"redacts": event_id(ROOM, target)}, "type": "m.room.redaction"}
    return replace(entry(seq, kind="m.room.redaction"), pdu=json.dumps(pdu).encode())


async def fill(store: Store) -> None:
    """Threads start with entries 1 and 2; entry 1 has an edit; the other room speaks of it, too."""
    await store.append(
        new_room(entry(1), entry(2), related(3, 1), related(4, 2), related(5, 1, "m.replace"), related(6, 1))
    )
    await store.append(new_room(related(1, 1, room_id=OTHER_ROOM), room_id=OTHER_ROOM))


def seqs(store: Store, parent: int, *, after: int = 0, before: int = 99, **how: Any) -> list[int]:
    asked = {"newest_first": False, "limit": 9, **how}
    rows = store.related(ROOM, event_id(ROOM, parent), after=after, before=before, **asked)
    return [row.seq for row in rows]


class RelationContract:
    """Finding children, counting them, threads."""

    async def test_what_relates_to_an_event_is_found_in_its_room(self, store: Store) -> None:
        await fill(store)
        assert seqs(store, 1) == [3, 5, 6]
        assert seqs(store, 1, newest_first=True, limit=2) == [6, 5]
        assert seqs(store, 1, after=3, before=6) == [5]
        assert seqs(store, 3) == []
        assert store.related("!no:a.example", "$1", after=0, before=9, newest_first=True, limit=9) == []
        found = store.marked(ROOM, [event_id(ROOM, seq) for seq in range(1, 7)])
        assert found == (frozenset({event_id(ROOM, 1), event_id(ROOM, 2)}), frozenset[str]())

    async def test_what_relates_to_any_of_some_events_is_found_newest_first(self, store: Store) -> None:
        await fill(store)
        ids = [event_id(ROOM, 1), event_id(ROOM, 2)]

        def found(before: int, limit: int) -> list[int]:
            return [row.seq for row in store.related_to_any(ROOM, ids, before=before, limit=limit)]

        assert (found(9, 9), found(6, 2), found(9, 0)) == ([6, 5, 4, 3], [5, 4], [])
        assert store.related_to_any(ROOM, [], before=9, limit=9) == []

    async def test_redactions_are_found_by_what_they_redact_and_are_no_relations(self, store: Store) -> None:
        await fill(store)
        redactions = (redaction(7, 5), redaction(8, 5), redaction(9, 4), redaction(10, 5))
        await store.append(RoomAppend(room_id=ROOM, entries=redactions))
        ids = [event_id(ROOM, seq) for seq in range(1, 7)]
        assert store.marked(ROOM, ids)[1] == {event_id(ROOM, 4), event_id(ROOM, 5)}
        found = [(parent, row.seq) for parent, row in store.redactions(ROOM, ids, limit=3)]
        assert found == [(event_id(ROOM, 5), 7), (event_id(ROOM, 5), 8), (event_id(ROOM, 4), 9)]
        assert store.redactions(OTHER_ROOM, ids, limit=9) == []
        assert seqs(store, 5) == []

    async def test_children_are_counted_by_their_kind(self, store: Store) -> None:
        await fill(store)
        counts = [
            store.relation_count(ROOM, event_id(ROOM, 1), kind, last=last)
            for kind, last in (("m.thread", 9), ("m.thread", 5), ("m.replace", 9), ("m.reference", 9))
        ]
        assert counts == [2, 1, 1, 0]

    async def test_threads_come_in_the_order_of_their_latest_answers(self, store: Store) -> None:
        await fill(store)
        first, second = event_id(ROOM, 1), event_id(ROOM, 2)
        assert store.threads(ROOM, before=99, last=99, limit=9) == [(first, 6), (second, 4)]
        assert store.threads(ROOM, before=6, last=99, limit=9) == [(second, 4)]
        assert store.threads(ROOM, before=99, last=5, limit=1) == [(second, 4)]
        assert store.threads(ROOM, before=99, last=3, limit=9) == [(first, 3)]

    async def test_relations_and_receipts_move_with_an_adopted_log(self, store: Store) -> None:
        mine = room(role=Role.PARTICIPANT, hub="b.example")
        await store.append(RoomAppend(room_id=ROOM, room=mine, entries=(entry(1, salt="x"), related(2, 1))))
        receipt = ReceiptRow(
            room_id=ROOM, user_id=BOB, kind="m.read", thread_id="", event_id="$", seq=2, ts=1
        )
        await store.put_receipts([receipt], most_threads=1)
        last = replace(related(2, 1), seq=4)
        await store.stage_entries(ROOM, (entry(1), entry(2), related(3, 1), last))
        await store.adopt(Adoption(room=room()))
        assert seqs(store, 1) == [3, 4]
        assert [row.seq for row in store.receipts_in(ROOM, BOB, until=9, limit=9)] == [4]
