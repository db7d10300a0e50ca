"""What sliding sync tells of one room: stamps, timelines, state, names and numbers, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.clients import sliding_rooms as module
from linearized.store.base import MembershipRow, Role
from linearized.store.sqlite import SqliteStore
from tests.server.clients.rows import append, entry, member
from tests.server.clients.sliding_support import ALL, ROOM, fill, seqs, slide, state
from tests.server.clients.support import KNOCKABLE, Client, Server, part

OTHER = "!s:a.example"
BOB = "@bob:a.example"


async def told(client: Client, pos: str | None = None, **wish: Any) -> tuple[str, Any]:
    """The position after an answer, and what it tells of the room."""
    answer = await slide(client, pos, room_subscriptions={ROOM: {"timeline_limit": 9, **wish}})
    return answer["pos"], answer["rooms"].get(ROOM)


def named(seq: int, **content: Any) -> Any:
    return entry(ROOM, seq, "m.room.name", state_key="", content=content)


async def test_a_room_is_bumped_by_what_people_say_and_ordered_by_anything(
    server: Server, alice: Client
) -> None:
    for room_id in (ROOM, OTHER):
        await fill(server, alice.user_id, room_id=room_id)
    first = await slide(alice)
    assert list(first["rooms"]) == [OTHER, ROOM]
    stamps = {room_id: value["bump_stamp"] for room_id, value in first["rooms"].items()}
    assert stamps[ROOM] < stamps[OTHER]
    await append(server.store, ROOM, member(ROOM, 6, BOB, "join"), entry(ROOM, 7, "m.reaction"))
    second = await slide(alice)
    assert list(second["rooms"]) == [ROOM, OTHER]
    assert second["rooms"][ROOM]["bump_stamp"] == stamps[ROOM]
    for seq, kind in enumerate(sorted(module.BUMPING), 8):
        await append(server.store, ROOM, entry(ROOM, seq, kind))
        stamp = (await slide(alice))["rooms"][ROOM]["bump_stamp"]
        assert stamp > max(stamps.values())
        stamps[ROOM] = stamp


async def test_what_bumped_a_room_is_looked_for_only_so_far_back(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BUMP_DEPTH", 3)
    await fill(server, alice.user_id)
    await append(server.store, ROOM, entry(ROOM, 6, "m.reaction"), entry(ROOM, 7, "m.reaction"))
    assert (await told(alice))[1]["bump_stamp"] > 0
    await append(server.store, ROOM, entry(ROOM, 8, "m.reaction"))
    assert (await told(alice))[1]["bump_stamp"] == 0


async def test_the_stamp_of_an_invitation_is_when_it_came(alice: Client, bob: Client) -> None:
    invited = await alice.create_room(invite=[bob.user_id])
    stamp = (await slide(bob))["rooms"][invited]["bump_stamp"]
    await alice.send(invited, "hello", "t")
    later = await alice.create_room(invite=[bob.user_id])
    rooms = (await slide(bob))["rooms"]
    assert (rooms[invited]["bump_stamp"], rooms[later]["bump_stamp"] > stamp) == (stamp, True)
    assert list(rooms) == [later, invited]


async def test_a_longer_timeline_is_told_only_if_some_of_it_was_not(server: Server, alice: Client) -> None:
    """The specification's example: B, C and D were told; three are no news, four are."""
    await append(server.store, ROOM, member(ROOM, 1, alice.user_id, "join"), entry(ROOM, 2), entry(ROOM, 3))
    pos, value = await told(alice, timeline_limit=2)
    assert seqs(value) == [2, 3]
    await append(server.store, ROOM, entry(ROOM, 4))
    pos, value = await told(alice, pos, timeline_limit=1)
    assert seqs(value) == [4]
    pos, value = await told(alice, pos, timeline_limit=3)
    assert value is None
    pos, value = await told(alice, pos, timeline_limit=4)
    assert (seqs(value), value["num_live"], value["limited"]) == ([1, 2, 3, 4], 0, False)
    assert value["expanded_timeline"]
    assert value["unstable_expanded_timeline"]
    pos, value = await told(alice, pos, timeline_limit=1)
    assert value is None
    await append(server.store, ROOM, entry(ROOM, 5))
    pos, value = await told(alice, pos, timeline_limit=9)
    assert (seqs(value), value["num_live"], value["limited"]) == ([5], 1, False)
    assert "expanded_timeline" not in value


async def test_behind_a_gap_a_longer_timeline_is_told_whole(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id)
    pos, _ = await told(alice, timeline_limit=2)
    await append(server.store, ROOM, *(entry(ROOM, seq) for seq in range(6, 10)))
    pos, value = await told(alice, pos, timeline_limit=2)
    assert (seqs(value), value["limited"], value["num_live"]) == ([8, 9], True, 2)
    await append(server.store, ROOM, entry(ROOM, 10))
    pos, value = await told(alice, pos, timeline_limit=3)
    assert (seqs(value), value["limited"], value["num_live"]) == ([10], False, 1)
    pos, value = await told(alice, pos, timeline_limit=4)
    assert (seqs(value), value["limited"], value["num_live"]) == ([7, 8, 9, 10], True, 0)
    await append(server.store, ROOM, *(entry(ROOM, seq) for seq in range(11, 16)))
    pos, value = await told(alice, pos, timeline_limit=5)
    assert (seqs(value), value["limited"]) == ([11, 12, 13, 14, 15], False)


async def test_more_state_is_told_at_once_and_nothing_else_again(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id)
    await append(
        server.store, ROOM, named(6, name="Tea"), entry(ROOM, 7, "m.room.topic", state_key="", content={})
    )
    name, topic = ["m.room.name", ""], ["m.room.topic", ""]
    pos, value = await told(alice, required_state=[name])
    assert state(value) == {("m.room.name", "")}
    pos, value = await told(alice, pos, required_state=[topic])
    assert (state(value), value["timeline"], value["num_live"]) == ({("m.room.topic", "")}, [], 0)
    assert "expanded_timeline" not in value
    assert not value["limited"]
    for again in ([name], [topic], [name, topic], [["m.room.none", ""]]):
        pos, value = await told(alice, pos, required_state=again)
        assert value is None, again


async def test_what_has_just_happened_is_live_in_a_room_that_comes_into_the_window(
    server: Server, alice: Client
) -> None:
    for room_id in (ROOM, OTHER):
        await fill(server, alice.user_id, room_id=room_id)
    top: Any = {"lists": {"top": {**ALL, "ranges": [[0, 0]]}}}
    first = await slide(alice, **top)
    assert (list(first["rooms"]), first["rooms"][OTHER]["num_live"]) == ([OTHER], 0)
    await append(server.store, ROOM, entry(ROOM, 6), entry(ROOM, 7))
    second = await slide(alice, first["pos"], **top)
    value = second["rooms"][ROOM]
    assert (value["initial"], len(seqs(value)), value["num_live"]) == (True, 7, 2)
    wider = await slide(alice, first["pos"], lists={"top": {**ALL, "ranges": [[0, 9]]}})
    assert wider["rooms"][ROOM]["num_live"] == 2


async def test_a_name_and_a_picture_that_are_gone_are_null(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id)
    picture = {"url": "mxc://a.example/x"}
    await append(server.store, ROOM, named(6, name="Tea"), member(ROOM, 7, BOB, "join"))
    await append(server.store, ROOM, entry(ROOM, 8, "m.room.avatar", state_key="", content=picture))
    pos, value = await told(alice)
    assert (value["name"], value["avatar"], "heroes" in value) == ("Tea", picture["url"], False)
    await append(server.store, ROOM, entry(ROOM, 9))
    pos, value = await told(alice, pos)
    assert value.keys().isdisjoint({"name", "avatar", "heroes", "joined_count"})
    await append(server.store, ROOM, named(10), entry(ROOM, 11, "m.room.avatar", state_key=""))
    pos, value = await told(alice, pos)
    assert (value["name"], value["avatar"], value["heroes"]) == (None, None, [{"user_id": BOB}])
    value = (await told(alice))[1]
    assert value.keys().isdisjoint({"name", "avatar"})


async def test_members_are_read_only_when_they_may_have_changed(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(server, alice.user_id)
    pos, value = await told(alice)
    assert (value["joined_count"], value["invited_count"]) == (1, 0)
    reads, real = [], server.store.memberships

    def memberships(room_id: str) -> list[MembershipRow]:
        reads.append(room_id)
        return real(room_id)

    monkeypatch.setattr(server.store, "memberships", memberships)
    await append(server.store, ROOM, entry(ROOM, 6))
    pos, value = await told(alice, pos)
    assert "joined_count" not in value
    assert reads == []
    await append(server.store, ROOM, member(ROOM, 7, BOB, "invite"), *(entry(ROOM, 8 + n) for n in range(9)))
    pos, value = await told(alice, pos)
    assert (value["limited"], value["joined_count"], value["invited_count"]) == (True, 1, 1)
    assert reads == [ROOM]


async def test_of_a_followed_room_the_members_are_told_each_time(server: Server, alice: Client) -> None:
    entries = (entry(ROOM, 1), entry(ROOM, 2))
    people = {alice.user_id: "join"}
    await append(server.store, ROOM, *entries, role=Role.FOLLOWER, memberships=people)
    pos, _ = await told(alice)
    await append(server.store, ROOM, entry(ROOM, 3), memberships={"@bob:b.example": "join"})
    assert (await told(alice, pos))[1]["joined_count"] == 2


async def test_members_whom_the_timeline_is_about_are_told_lazily(server: Server, alice: Client) -> None:
    carol = "@carol:a.example"
    await fill(server, alice.user_id)
    await append(
        server.store,
        ROOM,
        *(member(ROOM, 6 + index, user, "join") for index, user in enumerate((BOB, carol))),
        entry(ROOM, 8, sender=BOB),
        entry(ROOM, 9, "m.room.topic", state_key="", sender=BOB),
    )
    lazy: Any = {"include": [{}], "lazy_members": True}
    _, value = await told(alice, timeline_limit=2, required_state=lazy)
    assert state(value) == {("m.room.topic", ""), ("m.room.member", BOB)}
    pos, value = await told(alice, timeline_limit=3, required_state=lazy)
    assert ("m.room.member", carol) in state(value)  # the timeline has her coming in
    await append(server.store, ROOM, member(ROOM, 10, carol, "leave"))
    _, value = await told(alice, pos, timeline_limit=3, required_state=lazy)
    # The one who sets memberships here is Alice.
    assert state(value) == {("m.room.member", alice.user_id), ("m.room.member", carol)}


async def test_which_lists_a_room_is_in_is_told(server: Server, alice: Client) -> None:
    for room_id in (ROOM, OTHER):
        await fill(server, alice.user_id, room_id=room_id)
    lists = {"all": ALL, "top": {**ALL, "ranges": [[0, 0], [0, 0]]}}
    rooms = (await slide(alice, lists=lists))["rooms"]
    assert {room_id: value["lists"] for room_id, value in rooms.items()} == {
        OTHER: ["all", "top"],
        ROOM: ["all"],
    }
    subscribed = await slide(alice, room_subscriptions={ROOM: {"timeline_limit": 1}})
    assert "lists" not in subscribed["rooms"][ROOM]


async def test_that_a_room_is_direct_is_told_when_it_changes(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    knocked = await bob.create_room(initial_state=[KNOCKABLE])
    (await alice.call("POST", f"/knock/{part(knocked)}", {})).ok()
    first = await slide(alice)
    assert not any("is_dm" in value for value in first["rooms"].values())
    path = f"/user/{part(alice.user_id)}/account_data/m.direct"
    (await alice.call("PUT", path, {bob.user_id: [room_id, knocked]})).ok()
    second = await slide(alice, first["pos"])
    assert {each: value["is_dm"] for each, value in second["rooms"].items()} == {room_id: True, knocked: True}
    assert "timeline" not in second["rooms"][room_id]
    assert (await slide(alice, second["pos"]))["rooms"] == {}
    (await alice.call("PUT", path, {})).ok()
    third = await slide(alice, second["pos"])
    assert third["rooms"][room_id]["is_dm"] is False
    assert "is_dm" not in third["rooms"][knocked]  # told anew, and absent means no
    assert (await slide(alice, third["pos"]))["rooms"] == {}


async def test_a_face_has_both_of_its_names(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(name="Tea", invite=[bob.user_id])
    value = (await slide(bob))["rooms"][room_id]
    assert value["stripped_state"] == value["invite_state"]
    assert {"m.room.name", "m.room.member"} <= {event["type"] for event in value["stripped_state"]}


async def test_a_face_is_told_once_whatever_is_wanted_of_the_room(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    first = await slide(bob)
    assert room_id in first["rooms"]
    wider = {"all": {**ALL, "timeline_limit": 30, "required_state": [["*", "*"]]}}
    assert (await slide(bob, first["pos"], lists=wider))["rooms"] == {}


async def test_rooms_without_news_cost_no_reads(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = SqliteStore._query

    def query(self: SqliteStore, sql: str, *parameters: object) -> Any:
        asked.append(sql)
        return real(self, sql, *parameters)

    monkeypatch.setattr(SqliteStore, "_query", query)
    counts = []
    for number in range(2):
        for each in range(1 + 9 * number):
            await fill(server, alice.user_id, room_id=f"!{number}.{each}:a.example")
        pos = (await slide(alice))["pos"]
        asked.clear()
        assert (await slide(alice, pos))["rooms"] == {}
        counts.append(len(asked))
    assert counts[0] == counts[1]
