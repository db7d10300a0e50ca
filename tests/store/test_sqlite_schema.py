"""Migrations, and which databases are refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlite_utils import Database

from linearized.exceptions import SchemaTooNew, StoreError
from linearized.store.migrations import MIGRATION_SET, migrations
from linearized.store.sqlite_schema import migrate, require_current


@pytest.fixture
def connection(tmp_path: Path) -> sqlite3.Connection:
    return sqlite3.connect(tmp_path / "store.sqlite3", isolation_level=None)


def applied(connection: sqlite3.Connection) -> list[str]:
    return [migration.name for migration in migrations.applied(Database(connection))]


def tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def record(connection: sqlite3.Connection, migration_set: str, name: str) -> None:
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES (?, ?, '2036-01-01')",
        (migration_set, name),
    )


def test_an_empty_database_is_brought_up_to_date_once(connection: sqlite3.Connection) -> None:
    migrate(connection)
    names = applied(connection)
    assert names == sorted(names)
    assert {"rooms", "entries", "key_packages"} <= tables(connection)
    migrate(connection)
    assert applied(connection) == names
    require_current(connection)


def test_a_migration_that_fails_leaves_neither_changes_nor_a_record(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE media (something_else TEXT)")
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection)
    assert applied(connection) == ["m0001_rooms"]
    assert "replies" not in tables(connection)
    connection.execute("DROP TABLE media")
    migrate(connection)
    assert "replies" in tables(connection)


def test_a_newer_database_is_refused_and_not_touched(connection: sqlite3.Connection) -> None:
    migrate(connection)
    record(connection, MIGRATION_SET, "m9999_tomorrow")
    before = list(connection.iterdump())
    with pytest.raises(SchemaTooNew, match="m9999_tomorrow"):
        migrate(connection)
    with pytest.raises(SchemaTooNew):
        require_current(connection)
    assert list(connection.iterdump()) == before


def test_another_programs_migrations_in_the_file_are_its_own_business(connection: sqlite3.Connection) -> None:
    migrate(connection)
    record(connection, "notes", "m0001_notes")
    migrate(connection)
    require_current(connection)


def test_an_older_database_is_not_read_without_migrating_it(connection: sqlite3.Connection) -> None:
    with pytest.raises(StoreError, match="lacks m0001_rooms"):
        require_current(connection)
    assert tables(connection) == set()


def test_replies_of_older_versions_get_a_day_and_what_lasts_none(connection: sqlite3.Connection) -> None:
    db = Database(connection)
    (name,) = [found.name for found in migrations.pending(db) if found.name.endswith("_reply_days")]
    migrations.apply(db, stop_before=name)
    scopes = ("lpdu !r:a.example", "import !r:a.example", "client-filter\x1f@bob:b.example", "txn")
    for scope in scopes:
        connection.execute("INSERT INTO replies (scope, key, value) VALUES (?, 'k', 'v')", (scope,))
    migrate(connection)
    ((today,),) = connection.execute("SELECT day FROM reply_day")
    assert today > 20_000  # it is later than 2024
    days = dict(connection.execute("SELECT scope, day FROM replies WHERE value = 'v'"))
    assert [days[scope] for scope in scopes] == [today, None, None, today]


def test_relations_of_entries_from_older_versions_are_found(connection: sqlite3.Connection) -> None:
    db = Database(connection)
    (name,) = [found.name for found in migrations.pending(db) if found.name.endswith("_relations")]
    migrations.apply(db, stop_before=name)
    relation = b'{"content":{"m.relates_to":{"event_id":"$1","rel_type":"m.thread"}}}'
    for seq, pdu in ((1, b'{"content":{}}'), (2, relation), (3, b'{"content":{"m.relates_to":7}}')):
        connection.execute(
            "INSERT INTO entries (id, event_key, event_id, type, sender, origin_server_ts, pdu)"
            " VALUES (?, ?, ?, 'm.room.message', '@a:x', 0, ?)",
            ((7 << 32) + seq, seq, f"${seq}", pdu),
        )
    migrate(connection)
    rows = connection.execute("SELECT room_nr, parent, seq, rel_type FROM relations").fetchall()
    assert rows == [(7, "$1", 2, "m.thread")]


def test_the_ways_into_rooms_from_older_versions_are_found(connection: sqlite3.Connection) -> None:
    db = Database(connection)
    (name,) = [found.name for found in migrations.pending(db) if found.name.endswith("_ways_in")]
    migrations.apply(db, stop_before=name)
    connection.execute(
        "INSERT INTO rooms (room_nr, room_id, version, role, hub, head_seq, position)"
        " VALUES (7, '!r:a.example', 'I.1', 'hub', 'a.example', 3, 1)"
    )
    rules = ("public", "invite", "knock")
    for seq, rule in enumerate(rules, 1):
        pdu = b'{"content":{"join_rule":"%s"}}' % rule.encode()
        connection.execute(
            "INSERT INTO entries (id, event_key, event_id, type, state_key, sender, origin_server_ts, pdu)"
            " VALUES (?, ?, ?, 'm.room.join_rules', '', '@a:x', 0, ?)",
            ((7 << 32) + seq, seq, f"${seq}", pdu),
        )
        connection.execute("INSERT INTO state VALUES (7, 'm.room.join_rules', '', ?)", (seq,))
    migrate(connection)
    rows = connection.execute("SELECT room_id, way, via FROM ways_in").fetchall()
    assert rows == [("!r:a.example", "ask", "")]
