"""Typing: told at once, ended by time or word, never to who is outside."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from linearized.server.clients import typists as typists_module
from linearized.server.clients.context import context_of
from linearized.server.clients.typing_notices import MAX_MS
from linearized.server.clients.typists import Typists
from tests.server.clients.support import Client, Server, part, room

Clock = trio.testing.MockClock


@pytest.fixture
async def shared(alice: Client, bob: Client) -> str:
    """A room with both in it."""
    room_id = await alice.create_room(invite=[bob.user_id])
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    return room_id


async def types(client: Client, room_id: str, **body: Any) -> None:
    path = f"{room(room_id)}/typing/{part(client.user_id)}"
    assert (await client.call("PUT", path, {"typing": True, **body})).ok() == {}


def typing(answer: Any, room_id: str) -> list[str] | None:
    section = answer["rooms"]["join"].get(room_id, {"ephemeral": {"events": []}})
    found = [event["content"]["user_ids"] for event in section["ephemeral"]["events"]]
    return found[0] if found else None


async def test_typing_is_told_once_and_so_is_its_end(alice: Client, bob: Client, shared: str) -> None:
    await types(bob, shared)
    first = await alice.sync()
    assert typing(first, shared) == [bob.user_id]
    assert typing(await alice.sync(first["next_batch"]), shared) is None
    await types(bob, shared)  # still
    assert (await alice.sync(first["next_batch"]))["rooms"]["join"] == {}
    await types(bob, shared, typing=False)
    second = await alice.sync(first["next_batch"])
    assert typing(second, shared) == []
    await types(bob, shared, typing=False)
    assert (await alice.sync(second["next_batch"]))["rooms"]["join"] == {}
    assert typing(await alice.sync(), shared) is None


async def test_a_wait_ends_when_somebody_begins_and_when_their_time_is_up(
    alice: Client, bob: Client, shared: str, autojump_clock: Clock
) -> None:
    since = (await alice.sync())["next_batch"]
    began = trio.current_time()
    told: list[tuple[float, list[str] | None]] = []

    async def follow(since: str) -> None:
        for _ in range(2):
            answer = await alice.sync(since, timeout=50_000)
            since = answer["next_batch"]
            told.append((trio.current_time() - began, typing(answer, shared)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, since)
        await trio.sleep(5)
        await types(bob, shared, timeout=4_000)
    assert told == [(5, [bob.user_id]), (9, [])]


async def test_nobody_types_for_longer_than_the_bound(
    alice: Client, bob: Client, shared: str, autojump_clock: Clock
) -> None:
    await types(bob, shared, timeout=10 * MAX_MS)
    since = (await alice.sync())["next_batch"]
    await trio.sleep(MAX_MS / 1000)
    assert typing(await alice.sync(since), shared) == []


async def test_who_types_in_a_room_is_told_to_a_newcomer(server: Server, alice: Client, shared: str) -> None:
    carol = await server.user("carol")
    other = await carol.create_room()
    (await alice.call("POST", f"{room(shared)}/invite", {"user_id": carol.user_id})).ok()
    await types(alice, shared)
    await types(carol, other)
    since = (await carol.sync())["next_batch"]
    (await carol.call("POST", f"/join/{part(shared)}", {})).ok()
    assert typing(await carol.sync(since), shared) == [alice.user_id]


async def test_a_filter_that_leaves_a_room_out_leaves_its_typists_out(
    alice: Client, bob: Client, shared: str, autojump_clock: Clock
) -> None:
    query = {"filter": '{"room":{"not_rooms":["' + shared + '"]}}'}
    since = (await alice.sync(**query))["next_batch"]
    await types(bob, shared, timeout=1_000)
    began = trio.current_time()
    assert (await alice.sync(since, timeout=30_000, **query))["rooms"]["join"] == {}
    assert trio.current_time() - began == 30


async def test_one_types_for_oneself_in_rooms_one_is_in(
    server: Server, alice: Client, bob: Client, shared: str
) -> None:
    path = f"{room(shared)}/typing/{part(bob.user_id)}"
    (await alice.call("PUT", path, {"typing": True})).refused(403, "M_FORBIDDEN")
    eve = await server.user("eve")
    refusals = [
        (await eve.call("PUT", f"{room(room_id)}/typing/{part(eve.user_id)}", {"typing": True})).refused(
            403, "M_FORBIDDEN"
        )
        for room_id in (shared, "!no:a.example")
    ]
    assert refusals[0] == refusals[1]
    own = f"{room(shared)}/typing/{part(alice.user_id)}"
    for body in ({"typing": "yes"}, {"typing": True, "timeout": -1}, {"typing": True, "timeout": "1"}):
        (await alice.call("PUT", own, body)).refused(400, "M_BAD_JSON")
    assert typing(await alice.sync(), shared) is None


async def test_a_token_from_before_a_restart_is_behind_every_change(server: Server, alice: Client) -> None:
    room_id = await alice.create_room()
    await types(alice, room_id)
    number, _ = context_of(server.node).typists.news(room_id, after=0) or (0, [])
    assert number == server.clock.now + 1


async def test_a_room_has_a_bounded_number_of_typists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typists_module, "MAX_TYPISTS", 2)
    typists = Typists(0)
    assert [typists.start("!r:x", user, 9) for user in ("@a:x", "@b:x", "@c:x", "@a:x")] == [
        True, True, False, False
    ]  # fmt: skip
    assert typists.news("!r:x", after=0) == (2, ["@a:x", "@b:x"])


async def test_of_too_many_rooms_the_quietest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typists_module, "MAX_ROOMS", 2)
    typists = Typists(0)
    for room_id in ("!a:x", "!b:x", "!a:x", "!c:x"):
        typists.start(room_id, "@a:x", 9)
    assert [typists.news(room_id, after=0) is not None for room_id in ("!a:x", "!b:x", "!c:x")] == [
        True, False, True
    ]  # fmt: skip


async def test_the_next_end_is_never_in_the_past(autojump_clock: Clock) -> None:
    typists = Typists(0)
    typists.start("!r:x", "@a:x", 9)
    typists.start("!s:x", "@a:x", 5)
    assert typists.seconds_to_next_end(["!r:x", "!s:x", "!t:x"]) == 5
    assert typists.seconds_to_next_end(["!t:x"]) == float("inf")
    await trio.sleep(7)
    assert typists.seconds_to_next_end(["!r:x", "!s:x"]) == 0
    assert typists.news("!s:x", after=1) == (3, [])
    assert typists.seconds_to_next_end(["!r:x", "!s:x"]) == 2
