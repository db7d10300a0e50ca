"""Aliases and the listing of rooms: who may name and publish, and that nothing else is told by them."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.clients import aliases, creating, public_rooms
from tests.server.clients.support import Client, Server, part, room

TEA = "#tea:a.example"


def named(alias: str) -> str:
    return f"/directory/room/{part(alias)}"


async def listed(client: Client, **body: Any) -> list[str]:
    answer = (await client.call("POST", "/publicRooms", body)).ok()
    return [face["room_id"] for face in answer["chunk"]]


async def test_an_alias_is_given_resolved_listed_and_taken_away(server: Server, alice: Client) -> None:
    room_id = await alice.create_room()
    (await alice.call("PUT", named(TEA), {"room_id": room_id})).ok()
    found = (await server.call("GET", f"/_matrix/client/v3{named(TEA)}")).ok()  # nobody need be logged in
    assert found == {"room_id": room_id, "servers": ["a.example"]}
    assert (await alice.call("GET", f"{room(room_id)}/aliases")).ok() == {"aliases": [TEA]}
    (await alice.call("PUT", named(TEA), {"room_id": room_id})).refused(409, "M_UNKNOWN")
    (await alice.call("DELETE", named(TEA))).ok()
    (await alice.call("GET", named(TEA))).refused(404, "M_NOT_FOUND")
    (await alice.call("DELETE", named(TEA))).refused(404, "M_NOT_FOUND")


@pytest.mark.parametrize("alias", ["tea", "#:a.example", "#a:b:a.example", "#tea:b.example", "#" + "x" * 255])
async def test_what_is_no_alias_of_this_server_is_refused(alice: Client, alias: str) -> None:
    room_id = await alice.create_room()
    (await alice.call("PUT", named(alias), {"room_id": room_id})).refused(400, "M_INVALID_PARAM")


async def test_only_who_is_in_a_room_names_it_and_reads_its_names(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room()
    refused = [
        (await bob.call("PUT", named(TEA), {"room_id": each})).refused(403, "M_FORBIDDEN")
        for each in (room_id, "!nowhere:a.example")
    ]
    assert refused[0] == refused[1]
    (await bob.call("GET", f"{room(room_id)}/aliases")).refused(403, "M_FORBIDDEN")
    (await alice.call("PUT", named(TEA), {})).refused(400, "M_BAD_JSON")


async def test_an_alias_is_deleted_by_who_made_it_or_has_the_power(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(preset="public_chat")
    (await bob.call("POST", f"/join/{part(room_id)}")).ok()
    for client, alias in ((alice, TEA), (bob, "#his:a.example")):
        (await client.call("PUT", named(alias), {"room_id": room_id})).ok()
    (await bob.call("DELETE", named(TEA))).refused(403, "M_FORBIDDEN")
    (await alice.call("DELETE", named("#his:a.example"))).ok()
    (await bob.call("PUT", named("#his:a.example"), {"room_id": room_id})).ok()
    (await bob.call("DELETE", named("#his:a.example"))).ok()


async def test_a_room_has_only_so_many_aliases(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aliases, "MAX_ALIASES", 1)
    room_id = await alice.create_room()
    (await alice.call("PUT", named(TEA), {"room_id": room_id})).ok()
    (await alice.call("PUT", named("#more:a.example"), {"room_id": room_id})).refused(403, "M_FORBIDDEN")


async def test_a_room_is_created_with_an_alias_and_entered_by_it(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(room_alias_name="tea", preset="public_chat")
    content = (await alice.call("GET", f"{room(room_id)}/state/m.room.canonical_alias")).ok()
    assert content == {"alias": TEA}
    assert (await bob.call("POST", f"/join/{part(TEA)}")).ok() == {"room_id": room_id}
    summary = (await bob.call("GET", f"/_matrix/client/v1/room_summary/{part(TEA)}")).ok()
    assert (summary["room_id"], summary["canonical_alias"]) == (room_id, TEA)
    again = {"room_alias_name": "tea", "room_version": "I.1"}
    (await bob.call("POST", "/createRoom", again)).refused(400, "M_ROOM_IN_USE")
    bad = {"room_alias_name": "tea:", "room_version": "I.1"}
    (await bob.call("POST", "/createRoom", bad)).refused(400, "M_INVALID_PARAM")
    for path in (f"/join/{part('#no:a.example')}", f"/knock/{part('#no:a.example')}"):
        (await bob.call("POST", path)).refused(404, "M_NOT_FOUND")


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        ({"alias": TEA}, False),
        ({"alias": TEA, "alt_aliases": [TEA, "#elsewhere:b.example", 7]}, False),
        ({"alias": "#no:a.example"}, True),
        ({"alt_aliases": ["#other:a.example"]}, True),
        ({"alias": None, "alt_aliases": "none"}, False),
    ],
)
async def test_a_room_says_only_true_aliases(alice: Client, content: dict[str, Any], refused: bool) -> None:
    room_id = await alice.create_room(room_alias_name="tea")
    await alice.create_room(room_alias_name="other")
    answer = await alice.call("PUT", f"{room(room_id)}/state/m.room.canonical_alias", content)
    if refused:
        answer.refused(400, "M_BAD_ALIAS")
    else:
        answer.ok()


async def test_published_rooms_are_listed_as_long_as_anybody_may_come(alice: Client, bob: Client) -> None:
    quiet = await alice.create_room(preset="public_chat")
    room_id = await alice.create_room(visibility="public", name="Tea house", topic="leaves")
    invited = await alice.create_room(visibility="public", preset="private_chat")
    assert await listed(bob) == [room_id]
    (await alice.call("PUT", f"/directory/list/room/{part(quiet)}", {"visibility": "public"})).ok()
    (await bob.call("POST", f"/join/{part(quiet)}")).ok()
    faces = (await bob.call("GET", "/publicRooms")).ok()
    assert [face["room_id"] for face in faces["chunk"]] == [quiet, room_id]
    assert faces["total_room_count_estimate"] == 2
    assert (faces["chunk"][1]["name"], faces["chunk"][1]["num_joined_members"]) == ("Tea house", 1)
    assert invited not in str(faces)
    (await alice.call("PUT", f"/directory/list/room/{part(room_id)}", {"visibility": "private"})).ok()
    rules = {"join_rule": "invite"}
    (await alice.call("PUT", f"{room(quiet)}/state/m.room.join_rules", rules)).ok()
    assert await listed(bob) == []


async def test_the_listing_is_searched_and_paged(alice: Client) -> None:
    house = await alice.create_room(visibility="public", name="Tea house", room_alias_name="leaves")
    a_space = {"type": "m.space"}
    space = await alice.create_room(visibility="public", topic="more TEA", creation_content=a_space)
    other = await alice.create_room(visibility="public", name="Coffee")
    everything = {house, space, other}
    for term, found in (("tea", {house, space}), ("LEAVES", {house}), ("", everything), ("cocoa", set())):
        assert set(await listed(alice, filter={"generic_search_term": term})) == found
    assert await listed(alice, filter={"room_types": ["m.space"]}) == [space]
    assert set(await listed(alice, filter={"room_types": [None]})) == {house, other}
    pages: list[str] = []
    since: dict[str, str] = {}
    for number in range(3):
        answer = (await alice.call("GET", "/publicRooms", query={"limit": 1, **since})).ok()
        pages += [face["room_id"] for face in answer["chunk"]]
        assert ("prev_batch" in answer, "next_batch" in answer) == (number > 0, number < 2)
        since = {"since": answer.get("next_batch", "")}
    assert pages == sorted([house, space, other])


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({"since": "x"}, "M_INVALID_PARAM"),
        ({"since": "99999999"}, "M_INVALID_PARAM"),
        ({"since": "\u0661"}, "M_INVALID_PARAM"),
        ({"limit": "1"}, "M_BAD_JSON"),
        ({"filter": []}, "M_BAD_JSON"),
        ({"filter": {"room_types": "m.space"}}, "M_BAD_JSON"),
        ({"filter": {"room_types": [1]}}, "M_BAD_JSON"),
        ({"filter": {"room_types": ["x"] * 21}}, "M_INVALID_PARAM"),
        ({"filter": {"generic_search_term": "x" * 256}}, "M_INVALID_PARAM"),
    ],
)
async def test_a_bad_search_is_refused(alice: Client, body: dict[str, Any], errcode: str) -> None:
    (await alice.call("POST", "/publicRooms", body)).refused(400, errcode)


async def test_rooms_of_other_servers_are_not_listed(alice: Client) -> None:
    assert (await alice.call("GET", "/publicRooms", query={"server": "a.example"})).ok()["chunk"] == []
    (await alice.call("GET", "/publicRooms", query={"server": "b.example"})).refused(404, "M_NOT_FOUND")


async def test_visibility_tells_of_no_room_that_is_not_published(alice: Client, bob: Client) -> None:
    room_id, published = await alice.create_room(), await alice.create_room(visibility="public")

    async def visibility(of: str) -> Any:
        return (await bob.call("GET", f"/directory/list/room/{part(of)}")).ok()["visibility"]

    seen = [await visibility(each) for each in (room_id, "!nowhere:a.example", published)]
    assert seen == ["private", "private", "public"]
    path = f"/directory/list/room/{part(published)}"
    (await bob.call("PUT", path, {"visibility": "private"})).refused(403, "M_FORBIDDEN")
    (await bob.call("POST", f"/join/{part(published)}")).ok()
    (await bob.call("PUT", path, {"visibility": "private"})).refused(403, "M_FORBIDDEN")
    (await alice.call("PUT", path, {"visibility": "secret"})).refused(400, "M_INVALID_PARAM")
    (await alice.call("PUT", path, {})).ok()


async def test_only_so_many_rooms_are_published(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (public_rooms, creating):
        monkeypatch.setattr(module, "MAX_PUBLISHED", 1)
    room_id = await alice.create_room()
    await alice.create_room(visibility="public")
    path = f"/directory/list/room/{part(room_id)}"
    (await alice.call("PUT", path, {"visibility": "public"})).refused(403, "M_FORBIDDEN")
    body = {"visibility": "public", "room_version": "I.1"}
    (await alice.call("POST", "/createRoom", body)).refused(403, "M_FORBIDDEN")
