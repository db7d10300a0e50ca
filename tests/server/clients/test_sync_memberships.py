"""Where sync puts a room: joined, invited, knocked on or left."""

from __future__ import annotations

import orjson
import pytest

from linearized.store.base import Reply, Role
from tests.server.clients.rows import append, entry, member
from tests.server.clients.support import KNOCKABLE, Client, Server, part, room
from tests.server.clients.sync_support import ROOM, fill, seqs, types


async def test_an_invitation_shows_the_rooms_face_and_nothing_else(alice: Client, bob: Client) -> None:
    since = (await bob.sync())["next_batch"]
    room_id = await alice.create_room(name="Tea", invite=[bob.user_id])
    answer = await bob.sync(since)
    events = answer["rooms"]["invite"][room_id]["invite_state"]["events"]
    assert set(types(events)) == {"m.room.create", "m.room.name", "m.room.join_rules", "m.room.member"}
    assert events[-1]["content"] == {"membership": "invite"}
    assert answer["rooms"]["join"] == {}
    assert (await bob.sync(answer["next_batch"]))["rooms"]["invite"] == {}
    assert room_id in (await bob.sync())["rooms"]["invite"]


async def test_a_knock_shows_the_rooms_face_and_nothing_else(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(name="Tea", initial_state=[KNOCKABLE])
    since = (await bob.sync())["next_batch"]
    (await bob.call("POST", f"/knock/{part(room_id)}", {})).ok()
    answer = await bob.sync(since)
    events = answer["rooms"]["knock"][room_id]["knock_state"]["events"]
    assert set(types(events)) == {"m.room.create", "m.room.name", "m.room.join_rules", "m.room.member"}
    assert events[-1]["content"] == {"membership": "knock"}
    assert (answer["rooms"]["join"], answer["rooms"]["invite"]) == ({}, {})
    await alice.send(room_id, "Who is it?", "t")
    assert (await bob.sync(answer["next_batch"]))["rooms"]["knock"] == {}
    assert room_id in (await bob.sync())["rooms"]["knock"]
    (await alice.call("POST", f"{room(room_id)}/invite", {"user_id": bob.user_id})).ok()
    last = (await bob.sync(answer["next_batch"]))["rooms"]
    assert (list(last["knock"]), list(last["invite"])) == ([], [room_id])


async def test_a_join_brings_the_latest_entries_and_all_state(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(name="Tea", invite=[bob.user_id])
    since = (await bob.sync())["next_batch"]
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    answer = await bob.sync(since, filter='{"room":{"timeline":{"limit":2}}}')
    joined = answer["rooms"]["join"][room_id]
    assert types(joined["timeline"]["events"]) == ["m.room.member", "m.room.member"]
    assert joined["timeline"]["limited"]
    assert "m.room.create" in types(joined["state"]["events"])
    assert joined["summary"]["m.joined_member_count"] == 2
    assert joined["summary"]["m.heroes"] == [alice.user_id]


async def test_coming_back_does_not_repeat_what_was_told_before(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 3)
    first = await alice.sync()
    await append(server.store, ROOM, member(ROOM, 4, alice.user_id, "leave"))
    second = await alice.sync(first["next_batch"])
    assert seqs(second["rooms"]["leave"][ROOM]) == [4]
    await append(server.store, ROOM, entry(ROOM, 5), member(ROOM, 6, alice.user_id, "join"))
    joined = (await alice.sync(second["next_batch"]))["rooms"]["join"][ROOM]
    assert (seqs(joined), joined["timeline"]["limited"]) == ([5, 6], True)
    assert "m.room.name" in types(joined["state"]["events"])


async def test_leaving_is_told_once_with_everything_up_to_it(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 3)
    since = (await alice.sync())["next_batch"]
    await append(server.store, ROOM, entry(ROOM, 4), member(ROOM, 5, alice.user_id, "leave"), entry(ROOM, 6))
    answer = await alice.sync(since)
    assert seqs(answer["rooms"]["leave"][ROOM]) == [4, 5]
    assert answer["rooms"]["join"] == {}
    await append(server.store, ROOM, entry(ROOM, 7))
    assert (await alice.sync(answer["next_batch"]))["rooms"] == {
        "join": {},
        "invite": {},
        "knock": {},
        "leave": {},
    }


async def test_a_long_goodbye_is_limited(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 3)
    since = (await alice.sync())["next_batch"]
    name = entry(ROOM, 4, "m.room.name", state_key="", content={"name": "new"})
    middle = [entry(ROOM, seq) for seq in range(5, 40)]
    await append(server.store, ROOM, name, *middle, member(ROOM, 40, alice.user_id, "ban"))
    left = (await alice.sync(since))["rooms"]["leave"][ROOM]
    assert (seqs(left), left["timeline"]["limited"]) == (list(range(21, 41)), True)
    assert types(left["state"]["events"]) == ["m.room.name"]


async def test_a_first_sync_leaves_left_rooms_out_unless_asked(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 30)
    await append(server.store, ROOM, member(ROOM, 31, alice.user_id, "leave"), entry(ROOM, 32))
    assert (await alice.sync())["rooms"]["leave"] == {}
    left = (await alice.sync(filter='{"room":{"include_leave":true}}'))["rooms"]["leave"][ROOM]
    assert seqs(left) == list(range(12, 32))
    assert len(left["state"]["events"]) == 2


async def test_an_invitation_taken_back_is_told_without_the_rooms_events(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    since = (await bob.sync())["next_batch"]
    (await alice.send(room_id, "secret", "t")).ok()
    (await alice.call("POST", f"{room(room_id)}/kick", {"user_id": bob.user_id})).ok()
    left = (await bob.sync(since))["rooms"]["leave"][room_id]
    assert types(left["timeline"]["events"]) == ["m.room.member"]
    assert left["state"]["events"] == []
    include = await bob.sync(filter='{"room":{"include_leave":true}}')
    assert include["rooms"]["leave"] == {}


async def test_a_room_of_a_mimi_hub_appears_without_state(server: Server, alice: Client) -> None:
    room_id = "!mimi:hub.example"
    since = (await alice.sync())["next_batch"]
    await append(server.store, room_id, role=Role.FOLLOWER, memberships={alice.user_id: "join"})
    first = await alice.sync(since)
    joined = first["rooms"]["join"][room_id]
    assert (seqs(joined), joined["timeline"]["limited"], joined["state"]["events"]) == ([], True, [])
    await append(server.store, room_id, entry(room_id, 1, sender="@_mimi:hub.example"))
    second = await alice.sync(first["next_batch"])
    assert seqs(second["rooms"]["join"][room_id]) == [1]
    await append(server.store, room_id, entry(room_id, 2, sender="@_mimi:hub.example"))
    third = (await alice.sync(second["next_batch"]))["rooms"]["join"][room_id]
    assert (seqs(third), third["timeline"]["limited"]) == ([2], False)


async def test_another_users_arrival_in_a_mimi_copy_is_no_news(server: Server, alice: Client) -> None:
    room_id = "!mimi:hub.example"
    await append(server.store, room_id, role=Role.FOLLOWER, memberships={alice.user_id: "join"})
    await append(server.store, room_id, entry(room_id, 1), entry(room_id, 2))
    since = (await alice.sync())["next_batch"]
    await append(server.store, room_id, memberships={"@bob:a.example": "join"})
    assert (await alice.sync(since))["rooms"]["join"] == {}


async def test_an_invitation_to_a_room_elsewhere_is_as_its_server_described_it(
    server: Server, alice: Client
) -> None:
    room_id = "!tea:c.example"
    stripped = {"type": "m.room.name", "state_key": "", "sender": "@x:c.example", "content": {"name": "Tea"}}
    since = (await alice.sync())["next_batch"]
    value = orjson.dumps([stripped]).decode()
    await server.store.put_reply(Reply(scope="invite state", key=f"{room_id} {alice.user_id}", value=value))
    await append(server.store, room_id, role=Role.PARTICIPANT, memberships={alice.user_id: "invite"})
    answer = await alice.sync(since)
    assert answer["rooms"]["invite"] == {room_id: {"invite_state": {"events": [stripped]}}}
    assert (await alice.sync(answer["next_batch"]))["rooms"]["invite"] == {}
    await append(
        server.store, "!other:c.example", role=Role.PARTICIPANT, memberships={alice.user_id: "invite"}
    )
    bare = (await alice.sync(answer["next_batch"]))["rooms"]["invite"]
    assert bare == {"!other:c.example": {"invite_state": {"events": []}}}


async def test_a_membership_that_changes_behind_the_window_waits_for_the_next(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's row may be newer than the window's end; the section is by the membership at the end."""
    await fill(server, alice.user_id, 3)
    since = (await alice.sync())["next_batch"]
    await append(server.store, ROOM, entry(ROOM, 4))
    middle = server.store.position()
    await append(server.store, ROOM, member(ROOM, 5, alice.user_id, "leave"))
    with monkeypatch.context() as patch:
        patch.setattr(server.store, "position", lambda: middle)
        first = await alice.sync(since)
    assert seqs(first["rooms"]["join"][ROOM]) == [4]
    second = await alice.sync(first["next_batch"])
    assert seqs(second["rooms"]["leave"][ROOM]) == [5]


async def test_a_first_membership_behind_the_window_waits_for_the_next(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(server.store, ROOM, entry(ROOM, 1))
    middle = server.store.position()
    await append(server.store, ROOM, member(ROOM, 2, alice.user_id, "join"))
    with monkeypatch.context() as patch:
        patch.setattr(server.store, "position", lambda: middle)
        first = await alice.sync()
    assert first["rooms"]["join"] == {}
    assert seqs((await alice.sync(first["next_batch"]))["rooms"]["join"][ROOM]) == [1, 2]
