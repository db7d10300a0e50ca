"""The window of one sync."""

from __future__ import annotations

from linearized.server.clients.window import read_window
from tests.server.clients.rows import append, entry, member
from tests.server.clients.support import Server

BOB = "@bob:a.example"


def told(server: Server, since: int, *, max_rooms: int = 100) -> tuple[int, dict[str, tuple[int, int]]]:
    window = read_window(server.store, user_id=BOB, since=since, wanted=lambda _: True, max_rooms=max_rooms)
    return window.target, {room.row.room_id: (room.first, room.last) for room in window.rooms}


async def test_a_window_holds_just_the_users_rooms_that_changed(server: Server) -> None:
    await append(server.store, "!a:x.example", member("!a:x.example", 1, BOB, "join"))
    await append(server.store, "!b:x.example", member("!b:x.example", 1, BOB, "join"))
    await append(server.store, "!c:x.example", entry("!c:x.example", 1))
    target, rooms = told(server, 0)
    assert rooms == {"!a:x.example": (1, 1), "!b:x.example": (1, 1)}
    await append(server.store, "!b:x.example", entry("!b:x.example", 2), entry("!b:x.example", 3))
    assert told(server, target)[1] == {"!b:x.example": (2, 3)}
    assert told(server, server.store.position())[1] == {}


async def test_more_rooms_than_fit_come_in_several_windows_none_twice_none_left_out(server: Server) -> None:
    rooms = [f"!{number}:x.example" for number in range(10)]
    for room_id in rooms:
        await append(server.store, room_id, member(room_id, 1, BOB, "join"))
    for room_id in rooms[::2]:
        await append(server.store, room_id, entry(room_id, 2), entry(room_id, 3))
    since, got = 0, []
    for _ in range(20):
        since, found = told(server, since, max_rooms=3)
        assert len(found) <= 3
        got += [(room_id, seq) for room_id, (first, last) in found.items() for seq in range(first, last + 1)]
    assert since == server.store.position()
    assert sorted(got) == sorted(
        (room_id, seq)
        for index, room_id in enumerate(rooms)
        for seq in ((1, 2, 3) if index % 2 == 0 else (1,))
    )


async def test_a_membership_without_an_entry_is_news(server: Server) -> None:
    room_id = "!mimi:hub.example"
    await append(server.store, room_id, memberships={BOB: "join"})
    target, rooms = told(server, 0)
    assert rooms == {room_id: (1, 0)}
    assert told(server, target)[1] == {}
