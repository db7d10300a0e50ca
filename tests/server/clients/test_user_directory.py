"""Finding people: those one shares a room with, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.clients import user_directory as module
from linearized.server.clients.user_directory import MAX_TERM
from linearized.server.node import QUERY_BURST
from tests.server.clients.rows import append, entry, member
from tests.server.clients.support import Answer, Client, Server, part

ROOM = "!r:a.example"


async def ask(client: Client, term: Any, **more: Any) -> Answer:
    return await client.call("POST", "/user_directory/search", {"search_term": term, **more})


async def found(client: Client, term: str, **more: Any) -> list[str]:
    return [person["user_id"] for person in (await ask(client, term, **more)).ok()["results"]]


@pytest.fixture
async def met(server: Server, alice: Client, bob: Client) -> None:
    """Alice shares a room with Bob, who has a name, with Dora of another server, and with one who left."""
    content = {"membership": "join", "displayname": "Dodo", "avatar_url": 7}
    dora = entry(ROOM, 3, "m.room.member", state_key="@dora:b.example", content=content)
    people = [member(ROOM, 1, alice.user_id, "join"), member(ROOM, 2, bob.user_id, "join"), dora]
    await append(server.store, ROOM, *people, member(ROOM, 4, "@bobby:b.example", "leave"))
    path = f"/profile/{part(bob.user_id)}/displayname"
    (await bob.call("PUT", path, {"displayname": "Robert"})).ok()


async def test_people_are_found_by_their_ids_and_names(alice: Client, bob: Client, met: None) -> None:
    assert (await ask(alice, "bob")).ok() == {
        "results": [{"user_id": bob.user_id, "display_name": "Robert"}],
        "limited": False,
    }
    assert await found(alice, "OBER") == [bob.user_id]
    assert (await ask(alice, "dora")).ok()["results"] == [
        {"user_id": "@dora:b.example", "display_name": "Dodo"}
    ]
    assert await found(alice, "alice") == await found(alice, " ") == []


async def test_people_one_shares_no_room_with_are_not_found(server: Server, alice: Client, met: None) -> None:
    eve = await server.user("eve")
    assert await found(eve, "example") == []
    assert "@eve:a.example" not in await found(alice, "eve")


async def test_only_so_many_are_told(alice: Client, met: None, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = (await ask(alice, "example", limit=1)).ok()
    assert (len(answer["results"]), answer["limited"]) == (1, True)
    monkeypatch.setattr(module, "MAX_LIMIT", 1)
    assert len((await ask(alice, "example", limit=9)).ok()["results"]) == 1
    monkeypatch.setattr(module, "MAX_SCANNED", 1)
    assert (await ask(alice, "example")).ok() == {"results": [], "limited": True}


async def test_what_is_no_question_is_refused(alice: Client) -> None:
    for body in ({}, {"search_term": 1}, {"search_term": "x", "limit": "1"}):
        answer = await alice.call("POST", "/user_directory/search", body)
        answer.refused(400, "M_BAD_JSON")
    (await ask(alice, "x" * (MAX_TERM + 1))).refused(400, "M_INVALID_PARAM")


async def test_nobody_reads_the_directory_by_asking_without_end(alice: Client) -> None:
    statuses = [(await ask(alice, "x")).status for _ in range(QUERY_BURST + 1)]
    assert statuses == [200] * QUERY_BURST + [429]
