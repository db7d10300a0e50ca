from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bridges.matrix.content import Known
from bridges.matrix.database import Database
from bridges.matrix.device_states import DeviceStorage
from bridges.matrix.links import Phase, RoomLinks
from bridges.matrix.message_map import Messages
from bridges.matrix.queue import IncomingQueue
from linearized.exceptions import SchemaTooNew, StoreError

EVENT = {"event_id": "$1", "room_id": "!r:x", "type": "m.room.message"}


def test_a_database_is_kept_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "bridge.sqlite"
    database = Database(path)
    DeviceStorage(database, "@a:x").save(b"one")
    DeviceStorage(database, "@a:x").save(b"two")
    database.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    database = Database(path)
    assert DeviceStorage(database, "@a:x").load() == b"two"
    assert DeviceStorage(database, "@b:x").load() is None
    database.close()


def test_two_bridges_cannot_have_the_same_database(tmp_path: Path) -> None:
    database = Database(tmp_path / "b")
    with pytest.raises(StoreError, match="in use"):
        Database(tmp_path / "b")
    database.close()
    Database(tmp_path / "b").close()


def test_a_database_of_a_newer_version_or_of_something_else_is_left_alone(tmp_path: Path) -> None:
    database = Database(tmp_path / "b")
    database.run("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(SchemaTooNew):
        Database(tmp_path / "b")
    (tmp_path / "c").write_bytes(b"this is a diary, not a database " * 100)
    with pytest.raises(StoreError):
        Database(tmp_path / "c")


def test_half_of_a_change_does_not_stay(tmp_path: Path) -> None:
    database = Database(":memory:")

    def half() -> None:
        with database.together():
            database.run("INSERT INTO media VALUES ('a', 'b')")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert database.first("SELECT * FROM media") is None
    database.close()


def test_events_wait_their_turn_and_those_of_a_room_being_imported_wait_longer() -> None:
    database = Database(":memory:")
    queue, links = IncomingQueue(database), RoomLinks(database)
    links.begin("!busy:x")
    for number, room in enumerate(("!busy:x", "!r:x", "!r:x")):
        assert queue.add({"event_id": f"${number}", "room_id": room})
    first = queue.next()
    assert first is not None
    assert first.event_id == "$1"
    queue.finish(first)
    second = queue.next()
    assert second is not None
    queue.finish(second, skipped="why")
    assert queue.next() is None
    links.set_phase("!busy:x", Phase.LIVE)
    third = queue.next()
    assert third is not None
    assert third.event_id == "$0"
    row = database.one("SELECT state, reason, event FROM incoming WHERE event_id = '$2'")
    assert tuple(row) == ("skipped", "why", None)
    assert not queue.add({"event_id": "$1", "room_id": "!r:x"})
    assert queue.knows("$1")
    assert not queue.knows("$9")
    assert not queue.add({"event_id": 1})
    database.close()


def test_a_message_is_found_by_each_of_its_names() -> None:
    database = Database(":memory:")
    messages = Messages(database)
    for part, event_id in ((1, "$a"), (0, "$b")):  # sorted by their names, the second part would come first
        known = Known(matrix_event_id=event_id, log_event_id="$log", message_id=b"m" * 32, sender="@a:x")
        messages.put("!r:x", known, part=part)
    for found in (messages.by_message(b"m" * 32), messages.by_log("$log"), messages.by_matrix("$b")):
        assert found is not None
        assert found.matrix_event_id == "$b"
    assert messages.by_matrix("$c") is None
    database.close()


def test_what_a_message_becomes_is_decided_once() -> None:
    database = Database(":memory:")
    messages = Messages(database)
    messages.fix_outgoing("$a", b"first", b"i" * 32)
    messages.fix_outgoing("$a", b"second", b"j" * 32)
    assert messages.outgoing("$a") == b"first"
    assert messages.is_outgoing(b"i" * 32)
    assert not messages.is_outgoing(b"j" * 32)
    known = Known(matrix_event_id="$a", log_event_id="$log", message_id=b"i" * 32, sender="@a:x")
    messages.sent("!r:x", known)
    assert messages.outgoing("$a") is None
    assert messages.is_outgoing(b"i" * 32)
    database.close()
