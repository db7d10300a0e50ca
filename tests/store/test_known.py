"""What is kept in memory is never older than the database."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from linearized.exceptions import StoreError
from linearized.store import sqlite_devices
from linearized.store.base import DeviceRow, FollowerRow, NewToDevice, RoomAppend, ServerKeyRow
from linearized.store.known import Known
from linearized.store.pseudonyms import PseudonymRow
from linearized.store.sqlite import SqliteStore
from linearized.store.sqlite_reader import ALL_TOKENS

from .rows import ROOM, new_room, to_device


def test_what_was_read_is_known_until_it_is_written() -> None:
    known = Known[str, int](10)
    assert known.get("a") is None
    known.keep("a", 1)
    known.keep("b", 2)
    known.begin(["a"])
    assert (known.get("a"), known.get("b")) == (None, 2)
    known.keep("a", 1)  # read while it is written: who knows from before or after
    known.begin(["a"])
    known.end(["a"])
    known.keep("a", 1)
    assert known.get("a") is None
    known.end(["a"])
    known.keep("a", 3)
    assert known.get("a") == 3


def test_so_many_are_kept_and_no_more() -> None:
    known = Known[int, int](2)
    for number in range(3):
        known.keep(number, number)
    assert [known.get(number) for number in range(3)] == [None, None, 2]
    nothing = Known[int, int](0)
    nothing.keep(1, 1)
    assert nothing.get(1) is None


def follower(cursor: int, provider: str = "b.example") -> FollowerRow:
    return FollowerRow(room_id=ROOM, provider=provider, protocol="linearized", cursor=cursor)


def message(device: str) -> NewToDevice:
    return to_device(0, user_id="@a:a.example", device_id=device)


def traced(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queries that the store makes from now on."""
    store.entries(ROOM, after=0, limit=1)  # looks the room's number up, once and for all
    queries: list[str] = []
    query = store._query

    def tracing(sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        queries.append(sql)
        return query(sql, *parameters)

    monkeypatch.setattr(store, "_query", tracing)
    return queries


async def test_followers_are_read_once_and_again_after_every_write(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sqlite_store.append(new_room())
    queries = traced(sqlite_store, monkeypatch)
    assert sqlite_store.followers(ROOM) == []
    await sqlite_store.put_follower(follower(1))
    for _ in range(3):
        assert sqlite_store.followers(ROOM) == [follower(1)]
        assert sqlite_store.cursors(ROOM, "b.example") == [follower(1)]
        assert sqlite_store.cursors(ROOM, "c.example") == []
    assert len(queries) == 2
    await sqlite_store.move_cursors([follower(2)])
    assert sqlite_store.followers(ROOM) == [follower(2)]
    await sqlite_store.append(RoomAppend(room_id=ROOM, followers=(follower(3), follower(4, "c.example"))))
    assert sqlite_store.followers(ROOM) == [follower(3), follower(4, "c.example")]
    assert len(queries) == 4


async def test_who_has_no_messages_is_known_until_one_comes(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sqlite_store.append(new_room())
    queries = traced(sqlite_store, monkeypatch)

    def waiting(device: str) -> int:
        return len(sqlite_store.to_device("@a:a.example", device, after=0, limit=10))

    assert (waiting("ONE"), waiting("ONE"), waiting("TWO"), len(queries)) == (0, 0, 0, 2)
    await sqlite_store.put_to_device([message("ONE")])
    await sqlite_store.append(RoomAppend(room_id=ROOM, to_device=(message("TWO"),)))
    assert (waiting("ONE"), waiting("TWO")) == (1, 1)
    await sqlite_store.delete_to_device("@a:a.example", "ONE", up_to=2**62)
    assert waiting("ONE") == 0


async def test_a_device_is_known_by_its_token_until_any_device_is_written(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def device(name: str, token: str | None) -> DeviceRow:
        return DeviceRow(user_id="@a:a.example", device_id=name, display_name=None, token_hash=token)

    await sqlite_store.append(new_room())
    await sqlite_store.put_device(device("ONE", "1"))
    await sqlite_store.put_device(device("TWO", "2"))
    queries = traced(sqlite_store, monkeypatch)
    for _ in range(2):
        assert sqlite_store.device_by_token("1") == device("ONE", "1")
        assert sqlite_store.device_by_token("2") == device("TWO", "2")
    assert len(queries) == 2
    await sqlite_store.put_device(device("ONE", "3"))
    assert sqlite_store.device_by_token("1") is None
    assert sqlite_store.device_by_token("3") == device("ONE", "3")
    await sqlite_store.delete_device("@a:a.example", "ONE")
    assert sqlite_store.device_by_token("3") is None
    assert sqlite_store.device_by_token("2") == device("TWO", "2")
    row = PseudonymRow(user_id="@p:a.example", owner="@a:a.example", created_ts=0)
    make = partial(sqlite_store.put_pseudonym, row, "P")
    for write in (make, partial(sqlite_store.delete_pseudonym, row.user_id)):
        await write()
        assert sqlite_store._tokens.get(ALL_TOKENS) is None
        assert sqlite_store.device_by_token("2") == device("TWO", "2")


async def test_devices_are_kept_by_so_many_tokens_and_no_more(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_devices, "MAX_KNOWN_TOKENS", 2)
    for name in "123":
        await sqlite_store.put_device(
            DeviceRow(user_id="@a:a.example", device_id=name, display_name=None, token_hash=name)
        )
    for name in "123":
        assert sqlite_store.device_by_token(name) is not None
    assert list(sqlite_store._tokens.get(ALL_TOKENS) or ()) == ["3"]


async def test_a_servers_keys_are_read_once_and_again_after_every_write(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sqlite_store.append(new_room())
    queries = traced(sqlite_store, monkeypatch)

    def key(valid_until: int) -> ServerKeyRow:
        return ServerKeyRow(
            server_name="b.example", key_id="ed25519:1", key=b"k", valid_until_ts=valid_until, expired_ts=None
        )

    assert sqlite_store.server_keys("b.example") == sqlite_store.server_keys("b.example") == []
    await sqlite_store.put_server_keys([key(1)])
    assert sqlite_store.server_keys("b.example") == sqlite_store.server_keys("b.example") == [key(1)]
    await sqlite_store.put_server_keys([key(2)])
    assert sqlite_store.server_keys("b.example") == [key(2)]
    assert len(queries) == 3


async def test_a_page_without_messages_says_nothing_of_the_others(sqlite_store: SqliteStore) -> None:
    await sqlite_store.put_to_device([message("ONE")])
    assert sqlite_store.to_device("@a:a.example", "ONE", after=2**62, limit=10) == []
    assert sqlite_store.to_device("@a:a.example", "ONE", after=0, limit=0) == []
    assert len(sqlite_store.to_device("@a:a.example", "ONE", after=0, limit=10)) == 1


async def test_a_write_that_fails_or_is_given_up_is_no_reason_to_read_for_ever(
    sqlite_store: SqliteStore,
) -> None:
    with pytest.raises(StoreError):
        await sqlite_store.put_follower(follower(1))  # there is no such room
    await sqlite_store.append(new_room())
    with trio.CancelScope() as scope:
        scope.cancel()
        await sqlite_store.put_follower(follower(1))
    await sqlite_store.put_follower(follower(2, "c.example"))
    known = sqlite_store.followers(ROOM)
    assert follower(2, "c.example") in known
    assert sqlite_store._followed.get(ROOM) == known


async def test_a_file_that_another_process_writes_is_read_every_time(
    sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    await sqlite_store.append(new_room())
    looking = SqliteStore.open_readonly(tmp_path / "store.sqlite3")
    assert looking.followers(ROOM) == []
    await sqlite_store.put_follower(follower(1))
    assert looking.followers(ROOM) == [follower(1)]
    await looking.aclose()
