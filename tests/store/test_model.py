"""Whatever is appended, in whatever order, reads agree with a model that keeps everything in plain lists."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from linearized.exceptions import AppendConflict
from linearized.store.base import EntryRow, RoomAppend, Store
from linearized.store.sqlite import SqliteStore
from tests.store.rows import entry, member, room

ROOMS = ("!a:a.example", "!b:a.example", "!c:a.example")
USERS = ("@alice:a.example", "@bob:b.example")


@dataclass
class Step:
    """An append of ``events`` to a room, ``late`` entries after where its log ends (0 continues it)."""

    room_id: str
    events: list[tuple[str, str]]
    late: int


@dataclass
class Model:
    """Logs as lists, and for each position which room grew from where."""

    logs: dict[str, list[EntryRow]] = field(default_factory=dict)
    changes: list[tuple[int, str, int]] = field(default_factory=list)

    def state_at(self, room_id: str, seq: int) -> list[EntryRow]:
        state: dict[tuple[str, str], EntryRow] = {}
        for row in self.logs[room_id][:seq]:
            if row.state_key is not None:
                state[row.type, row.state_key] = row
        return sorted(state.values(), key=lambda row: row.seq)

    def changed_rooms(self, since: int) -> dict[str, int]:
        first: dict[str, int] = {}
        for position, room_id, seq in self.changes:
            if position > since:
                first.setdefault(room_id, seq)
        return first


steps = st.builds(
    Step,
    room_id=st.sampled_from(ROOMS),
    events=st.lists(
        st.tuples(st.sampled_from(["message", "topic", "join", "leave"]), st.sampled_from(USERS)), max_size=5
    ),
    late=st.sampled_from([0, 0, 0, 0, 1, -1]),
)


def rows_of(step: Step, first: int, salt: str) -> tuple[EntryRow, ...]:
    rows = []
    for seq, (kind, user_id) in enumerate(step.events, first):
        if kind == "message":
            rows.append(entry(seq, room_id=step.room_id, salt=salt))
        elif kind == "topic":
            rows.append(entry(seq, room_id=step.room_id, kind="m.room.topic", state_key="", salt=salt))
        else:
            rows.append(member(seq, user_id, kind, room_id=step.room_id))
    return tuple(rows)


async def apply(store: Store, model: Model, step: Step, salt: str) -> None:
    log = model.logs.get(step.room_id)
    head = len(log or ())
    rows = rows_of(step, head + 1 + step.late, salt)
    append = RoomAppend(room_id=step.room_id, room=room(step.room_id) if log is None else None, entries=rows)
    try:
        await store.append(append)
    except AppendConflict:
        assert step.late
        assert rows
        return
    assert not (step.late and rows)
    model.logs.setdefault(step.room_id, []).extend(rows)
    if rows:
        model.changes.append((store.position(), step.room_id, head + 1))


def check(store: Store, model: Model) -> None:
    assert {row.room_id: row.head_seq for row in store.rooms()} == {
        room_id: len(log) for room_id, log in model.logs.items()
    }
    for room_id, log in model.logs.items():
        assert store.entries(room_id, after=0, limit=1000) == log
        assert store.entries_before(room_id, before=len(log) + 1, limit=1000) == log[::-1]
        for seq in range(len(log) + 1):
            state = model.state_at(room_id, seq)
            assert store.state_at(room_id, seq=seq) == state
            for kind, key in {(row.type, row.state_key) for row in log if row.state_key is not None}:
                expected = next((row for row in state if (row.type, row.state_key) == (kind, key)), None)
                assert store.state_entry(room_id, kind, key, seq=seq) == expected
        for row in log:
            assert store.entry_by_id(row.event_id) == row
        members = {
            row.state_key: row.seq for row in model.state_at(room_id, len(log)) if row.type == "m.room.member"
        }
        assert {row.user_id: row.seq for row in store.memberships(room_id)} == members
    for since in {0, *(position for position, _, _ in model.changes)}:
        assert store.changed_rooms(since) == model.changed_rooms(since)


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, max_size=12))
def test_reads_agree_with_the_model(plan: list[Step]) -> None:
    async def main(path: Path) -> None:
        store = SqliteStore.open(path, synchronous="OFF", in_thread=False)
        model = Model()
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            for number, step in enumerate(plan):
                await apply(store, model, step, str(number))
            check(store, model)
            await store.aclose()

    with tempfile.TemporaryDirectory() as directory:
        trio.run(main, Path(directory) / "store.sqlite3")
