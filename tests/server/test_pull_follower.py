"""One provider that fetches: what it is given, what acknowledges it, and when it has to ask again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from linearized.mimi.messages import decode_fanout_stream
from linearized.protocol.identifiers import room_uri
from linearized.server import fanout
from linearized.server.cursors import LINEARIZED, MIMI
from linearized.server.pull_cursors import CursorSeal, Position, UnknownCursor
from linearized.server.pull_follower import Fetched, NothingLeft, PullFollower, Superseded
from linearized.server.welcomes import provider_address
from linearized.store.base import EntryRow, FollowerRow, Role, RoomAppend, RoomRow
from linearized.store.sqlite import SqliteStore
from tests.room.support import BOB, NOW, ROOM, A, Member, grouped_room
from tests.server.deliveries import messages, plain, welcome
from tests.server.test_fanout import roles

OTHER = "!other:a.example"
SEAL = CursorSeal(A.key)


class Setting:
    """A store with rooms, and b.example as it follows them."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.follower = self.opened()

    def opened(self) -> PullFollower:
        """The follower as it is after a restart of the hub."""
        rows = self.store.followed_by("b.example")
        return PullFollower("b.example", store=self.store, seal=SEAL, rows=rows)

    async def room(self, room_id: str = ROOM, *, protocol: str = MIMI, stop: int | None = None) -> None:
        row = RoomRow(room_id=room_id, version="I.1", role=Role.HUB, hub="a.example", head_seq=0, epoch=None)
        follower = FollowerRow(
            room_id=room_id, provider="b.example", protocol=protocol, cursor=0, stop_seq=stop
        )
        await self.store.append(RoomAppend(room_id=room_id, room=row, followers=(follower,)))
        self.follower = self.opened()

    async def append(self, entries: list[EntryRow], room_id: str = ROOM) -> None:
        row = self.store.room(room_id)
        assert row is not None
        numbered = tuple(
            replace(entry, room_id=room_id, seq=seq, event_id=f"{entry.event_id}{room_id}{seq}")
            for seq, entry in enumerate(entries, row.head_seq + 1)
        )
        await self.store.append(RoomAppend(room_id=room_id, entries=numbered))
        self.follower.room_changed(room_id)

    async def ask(self, last: Fetched | None = None, *, wait: float = 0) -> Fetched:
        found = await self.follower.ask(last.cursor if last is not None else None, wait=wait)
        assert found is not None
        return found

    def cursor(self, room_id: str = ROOM) -> int:
        return self.store.followers(room_id)[0].cursor


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Setting]:
    store = SqliteStore.open(path, synchronous="OFF", in_thread=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        yield Setting(store)
        nursery.cancel_scope.cancel()
    await store.aclose()


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with opened(tmp_path / "store.sqlite3") as running:
        yield running


def bodies(fetched: Fetched) -> list[bytes]:
    return [message.message for message in decode_fanout_stream(fetched.body)]


async def test_an_answer_is_given_again_until_it_is_acknowledged(setting: Setting) -> None:
    await setting.room()
    first, second = messages(2)
    await setting.append([first])
    given = await setting.ask()
    assert given.room == room_uri(ROOM)
    assert setting.cursor() == 0
    await setting.append([second])
    # Again the same bytes, though more could be said by now.
    assert await setting.ask() == given
    later = await setting.ask(given)
    assert setting.cursor() == 1
    assert later.body != given.body
    assert await setting.ask(given) == later
    assert await setting.follower.ask(later.cursor, wait=0) is None
    assert setting.cursor() == 2
    # What was acknowledged long ago acknowledges nothing more and is no reason to complain.
    assert await setting.follower.ask(given.cursor, wait=0) is None
    assert setting.cursor() == 2


async def test_after_a_restart_of_the_hub_what_was_not_acknowledged_comes_again(setting: Setting) -> None:
    await setting.room()
    await setting.append(messages(3))
    given = await setting.ask()
    setting.follower = setting.opened()
    assert await setting.ask() == given
    setting.follower = setting.opened()
    assert await setting.follower.ask(given.cursor, wait=0) is None
    assert setting.cursor() == 3


async def test_it_waits_for_news_and_no_longer_than_it_wants_to(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    await setting.room()
    started = autojump_clock.current_time()
    assert await setting.follower.ask(None, wait=20) is None
    assert autojump_clock.current_time() - started == 20

    async def speak() -> None:
        await trio.sleep(7)
        await setting.append(messages(1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(speak)
        assert roles((await setting.ask(wait=50)).body) == ["application"]
    assert autojump_clock.current_time() - started == 27


async def test_entries_without_a_mimi_message_are_passed_over_without_an_answer(setting: Setting) -> None:
    await setting.room()
    await setting.append([plain(1, ROOM)] * 450)
    assert await setting.follower.ask(None, wait=0) is None
    assert setting.cursor() == 450
    await setting.append([plain(1, ROOM), *messages(1), plain(3, ROOM)])
    assert roles((await setting.ask()).body) == ["application"]


async def test_an_answer_is_bounded_and_nothing_is_left_out(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    await setting.room()
    entries = messages(7)
    await setting.append(entries)
    whole = bodies(await setting.ask())
    assert len(whole) == 7
    setting.follower = setting.opened()
    monkeypatch.setattr(fanout, "MAX_NOTIFY_BYTES", 700)
    found: list[bytes] = []
    last: Fetched | None = None
    for _ in range(20):
        last = await setting.follower.ask(last.cursor if last is not None else None, wait=0)
        if last is None:
            break
        assert len(last.body) <= 700
        found += bodies(last)
    assert found == whole


async def test_rooms_take_turns(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "MAX_NOTIFY_BYTES", 1)
    for room_id in (ROOM, OTHER):
        await setting.room(room_id)
    for room_id in (ROOM, OTHER):
        await setting.append(messages(2), room_id)
    given = await setting.ask()
    order = [given.room]
    for _ in range(3):
        given = await setting.ask(given)
        order.append(given.room)
    assert order == [room_uri(room_id) for room_id in (ROOM, OTHER, ROOM, OTHER)]
    assert await setting.follower.ask(given.cursor, wait=0) is None


async def test_a_welcome_comes_after_its_commit_and_is_forgotten_once_acknowledged(setting: Setting) -> None:
    await setting.room()
    room, alice, _ = grouped_room()
    accepted = room.submit(alice.add(Member(BOB)), now=NOW)
    await setting.append(messages(1))
    await setting.store.put_to_device([welcome(accepted, 1)])
    given = await setting.ask()
    assert roles(given.body) == ["application", "welcome"]
    address = provider_address("b.example")
    await setting.store.put_to_device([welcome(accepted, 1)])
    assert await setting.ask() == given
    assert len(setting.store.to_device(address, ROOM, after=0, limit=9)) == 2
    again = await setting.ask(given)
    assert roles(again.body) == ["welcome"]
    assert len(setting.store.to_device(address, ROOM, after=0, limit=9)) == 1
    assert await setting.follower.ask(again.cursor, wait=0) is None
    assert not setting.store.to_device(address, ROOM, after=0, limit=9)


async def test_a_second_request_ends_the_first(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    await setting.room()
    ended: list[str] = []

    async def first() -> None:
        with pytest.raises(Superseded):
            await setting.ask(wait=50)
        ended.append("first")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        assert await setting.follower.ask(None, wait=1) is None
    assert ended == ["first"]
    assert autojump_clock.current_time() < 50


async def test_a_removed_follower_gets_everything_up_to_its_removal_and_is_then_told(
    setting: Setting,
) -> None:
    await setting.room(stop=2)
    await setting.append(messages(3))
    given = await setting.ask()
    assert len(bodies(given)) == 2
    for _ in range(2):
        with pytest.raises(NothingLeft):
            await setting.follower.ask(given.cursor, wait=50)
    setting.follower = setting.opened()
    with pytest.raises(NothingLeft):
        await setting.follower.ask(None, wait=50)


async def test_a_removal_ends_the_wait_of_a_follower_that_has_everything(setting: Setting) -> None:
    await setting.room()

    async def ask() -> None:
        with pytest.raises(NothingLeft):
            await setting.ask(wait=50)

    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        await setting.store.put_follower(replace(setting.store.followers(ROOM)[0], stop_seq=0))
        setting.follower.room_changed(ROOM)
    assert trio.current_time() - started < 50


async def test_one_that_follows_nothing_yet_waits(
    setting: Setting, autojump_clock: trio.testing.MockClock
) -> None:
    await setting.room(protocol=LINEARIZED)  # sent to it as PDUs, so none of its business here
    await setting.append(messages(1))
    setting.follower = setting.opened()
    assert await setting.follower.ask(None, wait=5) is None
    assert autojump_clock.current_time() >= 5


async def test_a_notification_under_way_may_bring_what_was_given(setting: Setting) -> None:
    await setting.room()
    await setting.append(messages(2))
    given = await setting.ask()
    await setting.store.move_cursors([replace(setting.store.followers(ROOM)[0], cursor=2)])
    assert await setting.follower.ask(None, wait=0) is None
    assert await setting.follower.ask(given.cursor, wait=0) is None


async def test_a_cursor_past_the_logs_end_or_of_an_unknown_room_acknowledges_nothing(
    setting: Setting,
) -> None:
    await setting.room()
    await setting.append(messages(2))
    for position in (
        Position(room_id=ROOM, seq=3, welcomes=0),
        Position(room_id=OTHER, seq=1, welcomes=0),
    ):
        with pytest.raises(UnknownCursor, match="does not reach that far"):
            await setting.follower.ask(SEAL.seal("b.example", position), wait=0)
    assert setting.cursor() == 0


async def test_a_room_that_is_left_out_is_given_again_later_and_holds_up_no_other(setting: Setting) -> None:
    await setting.room()
    await setting.room(OTHER)
    first, second = messages(2)
    await setting.append([first])
    await setting.append([second], OTHER)
    held = await setting.ask()
    found = await setting.follower.ask(None, wait=0, skip=frozenset({ROOM}))
    assert found is not None
    assert (held.room, found.room) == (room_uri(ROOM), room_uri(OTHER))
    # The other room's cursor acknowledges its own answer alone.
    assert await setting.follower.ask(found.cursor, wait=0, skip=frozenset({ROOM})) is None
    assert (setting.cursor(), setting.cursor(OTHER)) == (0, 1)
    assert await setting.ask() == held
