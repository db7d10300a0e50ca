"""What is particular to the SQLite store: opening, locking, looking at the file, what queries cost."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from sqlite_utils import Database

from linearized.exceptions import ConfigError, SchemaTooNew, StoreError
from linearized.store import sqlite_key_packages, sqlite_reader, sqlite_rooms
from linearized.store.base import Reply
from linearized.store.sqlite import SqliteStore
from linearized.store.sqlite_schema import migrate
from tests.store.rows import BOB, OTHER_ROOM, ROOM, entry, event_id, member, message, new_room, to_device


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


def exists(path: Path) -> bool:
    return path.exists()


def contents(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def modes_in(directory: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in directory.iterdir()}


async def test_what_was_written_is_there_after_a_restart(path: Path, nursery: trio.Nursery) -> None:
    store = SqliteStore.open(path)
    await nursery.start(store.run)
    await store.append(new_room(entry(1), entry(2)))
    position = store.position()
    await store.aclose()
    assert not exists(path.with_name(path.name + "-wal")), "closing tidies the log away"
    store = SqliteStore.open(path)
    await nursery.start(store.run)
    assert store.position() == position
    await store.append(message(3))
    assert store.entries(ROOM, after=0, limit=9) == [entry(1), entry(2), entry(3)]
    assert store.changed_rooms(position) == {ROOM: 3}
    await store.aclose()


async def test_the_database_is_for_its_owner_only(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    await sqlite_store.append(new_room(entry(1)))
    modes = modes_in(tmp_path)
    assert set(modes) >= {"store.sqlite3", "store.sqlite3-wal", "store.sqlite3-shm", "store.sqlite3.lock"}
    assert set(modes.values()) == {0o600}


async def test_a_second_server_on_the_file_is_refused_until_the_first_closes(path: Path) -> None:
    first = SqliteStore.open(path)
    with pytest.raises(StoreError, match="in use by another server"):
        SqliteStore.open(path)
    await first.aclose()
    second = SqliteStore.open(path)
    await second.aclose()


async def test_a_store_that_could_not_be_opened_gives_the_lock_back(path: Path) -> None:
    write(path, b"This is not a database, whatever its name says. " * 100)
    for _ in range(2):
        with pytest.raises(StoreError, match="not a database"):
            SqliteStore.open(path)
    with pytest.raises(StoreError, match="not a database"):
        SqliteStore.open_readonly(path)


async def test_an_unknown_synchronous_setting_is_the_operators_error(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"store\.synchronous is 'SOMETIMES'"):
        SqliteStore.open(path, synchronous="SOMETIMES")
    assert not exists(path)


async def test_a_newer_database_is_refused_for_writing_and_for_reading(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    migrate(connection)
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('linearized', 'm9999', '')"
    )
    connection.close()
    with pytest.raises(SchemaTooNew):
        SqliteStore.open(path)
    with pytest.raises(SchemaTooNew):
        SqliteStore.open_readonly(path)


async def test_a_tool_may_read_while_a_server_writes(sqlite_store: SqliteStore, path: Path) -> None:
    await sqlite_store.append(new_room(entry(1)))
    tool = SqliteStore.open_readonly(path)
    assert tool.entries(ROOM, after=0, limit=9) == [entry(1)]
    await sqlite_store.append(message(2))
    assert tool.entries(ROOM, after=1, limit=9) == [entry(2)]
    with pytest.raises(StoreError, match="read-only"):
        await tool.put_reply(Reply(scope="s", key="k", value="v"))
    with pytest.raises(StoreError, match="read-only"):
        await tool.run()
    await tool.aclose()
    await sqlite_store.append(message(3))


async def test_a_tool_reads_the_file_of_a_stopped_server_and_leaves_it_alone(path: Path) -> None:
    store = SqliteStore.open(path)
    await store.aclose()
    before = contents(path)
    tool = SqliteStore.open_readonly(path)
    assert tool.rooms() == []
    await tool.aclose()
    assert contents(path) == before


async def test_a_tool_does_not_create_a_database(path: Path) -> None:
    with pytest.raises(StoreError, match="cannot open"):
        SqliteStore.open_readonly(path)
    assert not exists(path)


async def test_the_reading_connection_cannot_write(sqlite_store: SqliteStore) -> None:
    with pytest.raises(StoreError, match="readonly"):
        sqlite_store._query("DELETE FROM rooms")


async def test_a_read_sees_its_own_tasks_writes_at_once(sqlite_store: SqliteStore) -> None:
    await sqlite_store.append(new_room())
    for seq in range(1, 50):
        await sqlite_store.append(message(seq))
        assert sqlite_store.entries(ROOM, after=seq - 1, limit=1) == [entry(seq)]


async def test_waiting_appends_share_commits(sqlite_store: SqliteStore) -> None:
    rooms = [f"!{n}:a.example" for n in range(200)]
    async with trio.open_nursery() as nursery:
        for room_id in rooms:
            nursery.start_soon(sqlite_store.append, new_room(entry(1, room_id=room_id), room_id=room_id))
    assert sqlite_store.writes == 200
    # One when the first arrived; the rest while it was being flushed, or soon after.
    assert sqlite_store.commits < 40


async def test_two_ids_that_share_an_index_key_are_told_apart(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sqlite_rooms", "sqlite_append"):
        monkeypatch.setattr(f"linearized.store.{module}.event_key", lambda _: -7)
    await sqlite_store.append(new_room(entry(1), entry(2)))
    await sqlite_store.append(new_room(entry(1, room_id=OTHER_ROOM), room_id=OTHER_ROOM))
    assert sqlite_store.entry_by_id(event_id(ROOM, 2)) == entry(2)
    assert sqlite_store.entry_by_id(event_id(OTHER_ROOM, 1)) == entry(1, room_id=OTHER_ROOM)
    assert sqlite_store.entry_by_id(event_id(ROOM, 3)) is None


async def test_more_rooms_than_are_remembered_stay_readable(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_reader, "MAX_KNOWN_ROOMS", 3)
    rooms = [f"!{n}:a.example" for n in range(10)]
    for room_id in rooms:
        await sqlite_store.append(new_room(entry(1, room_id=room_id), room_id=room_id))
    for room_id in (*rooms, *rooms):
        assert sqlite_store.entries(room_id, after=0, limit=1) == [entry(1, room_id=room_id)]


async def test_what_is_for_many_devices_is_stored_once_and_goes_with_the_last(
    sqlite_store: SqliteStore, path: Path
) -> None:
    large = b'"' + b"w" * 10_000 + b'"'
    devices = [f"D{number}" for number in range(20)]
    await sqlite_store.put_to_device(
        [replace(to_device(1, device_id=name), content=large) for name in devices]
    )
    reading = sqlite3.connect(path)

    def stored() -> list[tuple[int, ...]]:
        return [
            reading.execute(f"SELECT count(*), coalesce(sum(length(content)), 0) FROM {table}").fetchone()  # noqa: S608
            for table in ("to_device", "to_device_contents")
        ]

    assert stored() == [(20, 0), (1, len(large))]
    for name in devices:
        assert stored()[1] == (1, len(large))
        await sqlite_store.delete_to_device(BOB, name, sqlite_store.to_device_position())
    assert stored() == [(0, 0), (0, 0)]
    reading.close()


async def test_operators_can_look_at_the_file_with_sqlite_utils(
    sqlite_store: SqliteStore, path: Path
) -> None:
    await sqlite_store.append(new_room(entry(1), member(2, "@bob:b.example", "join")))
    await sqlite_store.append(new_room(entry(1, room_id=OTHER_ROOM), room_id=OTHER_ROOM))
    database = Database(path)
    rows = list(database.query("SELECT seq, event_id, pdu FROM log WHERE room_id = ?", [ROOM]))
    assert [(row["seq"], row["event_id"]) for row in rows] == [(1, event_id(ROOM, 1)), (2, event_id(ROOM, 2))]
    assert '"membership": "join"' in rows[1]["pdu"]
    assert {row["room_id"] for row in database["rooms"].rows} == {ROOM, OTHER_ROOM}
    database.close()


QUERIES = {
    name: sql
    for module in (sqlite_rooms, sqlite_key_packages)
    for name, sql in vars(module).items()
    if name.isupper() and isinstance(sql, str) and "SELECT" in sql
}


@pytest.mark.parametrize("name", sorted(QUERIES.keys() - {"_ROOMS", "_FOLLOWERS"}))
async def test_hot_queries_use_an_index(sqlite_store: SqliteStore, name: str) -> None:
    sql = QUERIES[name]
    numbered = [int(number) for number in re.findall(r"\?(\d)", sql)]
    parameters = [1] * (max(numbered) if numbered else sql.count("?"))
    plan = [row[3] for row in sqlite_store._query(f"EXPLAIN QUERY PLAN {sql}", *parameters)]
    assert any(step.startswith("SEARCH") for step in plan)
    if name == "_MEMBERS_OF":
        assert any("memberships_server" in step for step in plan)
    # The state's subquery is scanned once it was searched for.
    assert [step for step in plan if step.startswith("SCAN") and step != "SCAN s"] == []
