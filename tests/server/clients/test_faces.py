"""What is told of a room to who is not in it, and of a space and its rooms."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.clients import hierarchy as module
from linearized.store.base import Role
from tests.server.clients.rows import append
from tests.server.clients.support import KNOCKABLE, Client, Server, part, room

V1 = "/_matrix/client/v1"


async def summary(client: Client, room_id: str) -> Any:
    return await client.call("GET", f"{V1}/room_summary/{part(room_id)}")


async def space(client: Client, *children: str, **how: Any) -> str:
    room_id = await client.create_room(creation_content={"type": "m.space"}, **how)
    for number, child in enumerate(children):
        await put_child(client, room_id, child, {"via": ["a.example"], "order": f"{number}"})
    return room_id


async def put_child(client: Client, room_id: str, child: str, content: Any) -> None:
    (await client.call("PUT", f"{room(room_id)}/state/m.space.child/{part(child)}", content)).ok()


async def listed(client: Client, room_id: str, **query: Any) -> Any:
    return (await client.call("GET", f"{room(room_id, V1)}/hierarchy", query=query)).ok()


def ids(answer: Any) -> list[str]:
    return [found["room_id"] for found in answer["rooms"]]


async def test_a_public_room_shows_its_face(alice: Client, bob: Client) -> None:
    state = [
        {"type": "m.room.avatar", "content": {"url": "mxc://a.example/x"}},
        {"type": "m.room.canonical_alias", "content": {"alias": 7}},
    ]
    room_id = await alice.create_room(preset="public_chat", name="Tea", topic="Hot", initial_state=state)
    face = {
        "room_id": room_id,
        "name": "Tea",
        "topic": "Hot",
        "avatar_url": "mxc://a.example/x",
        "join_rule": "public",
        "num_joined_members": 1,
        "world_readable": False,
        "guest_can_join": False,
        "room_version": "I.1",
    }
    assert (await summary(bob, room_id)).ok() == face
    assert (await summary(alice, room_id)).ok() == {**face, "membership": "join"}


async def test_a_private_room_shows_its_face_to_who_is_invited(
    server: Server, alice: Client, bob: Client
) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    assert (await summary(bob, room_id)).ok()["membership"] == "invite"
    eve = await server.user("eve")
    hidden, none = await summary(eve, room_id), await summary(eve, "!no:a.example")
    assert hidden.refused(404, "M_NOT_FOUND") == none.refused(404, "M_NOT_FOUND")


async def test_a_room_one_may_knock_on_or_read_shows_its_face(alice: Client, bob: Client) -> None:
    readable = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
    for state in (KNOCKABLE, readable):
        room_id = await alice.create_room(initial_state=[state])
        assert (await summary(bob, room_id)).ok()["world_readable"] is (state is readable)


async def test_a_restricted_room_shows_its_face_to_members_of_the_rooms_it_names(
    server: Server, alice: Client, bob: Client
) -> None:
    club = await alice.create_room(preset="public_chat")
    allow = [{"type": "m.room_membership", "room_id": club}, {"room_id": 7}, "x"]
    rule = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    room_id = await alice.create_room(initial_state=[rule])
    (await summary(bob, room_id)).refused(404, "M_NOT_FOUND")
    (await bob.call("POST", f"/join/{part(club)}", {})).ok()
    assert (await summary(bob, room_id)).ok()["join_rule"] == "restricted"


async def test_a_room_without_a_copy_here_has_no_face(server: Server, alice: Client) -> None:
    remote = "!r:b.example"
    await append(server.store, remote, role=Role.PARTICIPANT, memberships={alice.user_id: "invite"})
    (await summary(alice, remote)).refused(404, "M_NOT_FOUND")


async def test_a_space_is_listed_depth_first_and_each_room_once(alice: Client) -> None:
    leaves = [await alice.create_room(name=name) for name in "abc"]
    inner = await space(alice, leaves[0], leaves[1])
    outer = await space(alice, inner, leaves[2], leaves[0])
    await put_child(alice, inner, outer, {"via": ["a.example"]})  # a circle
    answer = await listed(alice, outer)
    assert ids(answer) == [outer, inner, leaves[0], leaves[1], leaves[2]]
    assert answer["rooms"][0]["room_type"] == "m.space"
    assert [child["state_key"] for child in answer["rooms"][1]["children_state"]] == [
        leaves[0], leaves[1], outer
    ]  # fmt: skip
    assert ids(await listed(alice, outer, max_depth=1)) == [outer, inner, leaves[2], leaves[0]]
    assert ids(await listed(alice, outer, max_depth=0)) == [outer]


async def test_a_hierarchy_goes_only_so_deep(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DEPTH", 1)
    leaf = await alice.create_room()
    inner = await space(alice, leaf)
    outer = await space(alice, inner)
    assert ids(await listed(alice, outer)) == ids(await listed(alice, outer, max_depth=9)) == [outer, inner]


async def test_a_hierarchy_comes_in_pages(alice: Client) -> None:
    outer = await space(alice, *[await alice.create_room() for _ in range(4)])
    whole, found = ids(await listed(alice, outer)), []
    place: dict[str, str] = {}
    while True:
        answer = await listed(alice, outer, limit=2, **place)
        found += ids(answer)
        if "next_batch" not in answer:
            break
        place = {"from": answer["next_batch"]}
    assert found == whole
    assert len(whole) == 5


async def test_children_come_in_their_order_and_what_is_none_not_at_all(alice: Client) -> None:
    rooms = [await alice.create_room() for _ in range(6)]
    outer = await space(alice)
    via = {"via": ["a.example"]}
    contents = [
        {**via},
        {**via, "order": "b"},
        {**via, "order": "a", "suggested": True},
        {**via, "order": "\u00e9"},
        {"via": []},
        {},
    ]
    for room_id, content in zip(rooms, contents, strict=True):
        await put_child(alice, outer, room_id, content)
    assert ids(await listed(alice, outer))[1:3] == [rooms[2], rooms[1]]
    assert set(ids(await listed(alice, outer))[3:]) == {rooms[0], rooms[3]}
    assert ids(await listed(alice, outer, suggested_only="true")) == [outer, rooms[2]]


async def test_rooms_one_may_not_know_of_are_left_out(alice: Client, bob: Client) -> None:
    secret, shown = await alice.create_room(), await alice.create_room(preset="public_chat")
    outer = await space(alice, secret, "!no:a.example", shown, preset="public_chat")
    assert ids(await listed(bob, outer)) == [outer, shown]
    hidden, none = [
        await bob.call("GET", f"{room(room_id, V1)}/hierarchy") for room_id in (secret, "!no:a.example")
    ]
    assert hidden.refused(403, "M_FORBIDDEN") == none.refused(403, "M_FORBIDDEN")


async def test_only_so_many_rooms_are_walked(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROOMS", 3)
    outer = await space(alice, *[await alice.create_room() for _ in range(4)])
    assert len(ids(await listed(alice, outer))) == 3


@pytest.mark.parametrize("query", [{"from": "t1"}, {"from": "h-1"}, {"limit": "x"}, {"max_depth": "-1"}])
async def test_a_question_that_is_none_is_refused(alice: Client, query: Any) -> None:
    outer = await space(alice)
    answer = await alice.call("GET", f"{room(outer, V1)}/hierarchy", query=query)
    answer.refused(400, "M_INVALID_PARAM")


async def test_who_has_left_a_private_room_is_shown_its_face_no_more(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(name="Tea", invite=[bob.user_id])
    path = f"{V1}/room_summary/{part(room_id)}"
    assert (await bob.call("GET", path)).ok()["membership"] == "invite"
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    assert (await bob.call("GET", path)).ok()["membership"] == "join"
    (await bob.call("POST", f"{room(room_id)}/leave", {})).ok()
    (await bob.call("GET", path)).refused(404, "M_NOT_FOUND")
