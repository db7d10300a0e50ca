"""The endpoint of pull followers: who may use it, what it answers, and every way it says no."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from linearized.config import ProviderConfig
from linearized.mimi.messages import decode_fanout_stream
from linearized.protocol.identifiers import room_uri
from linearized.server.providers import PREFIX
from linearized.server.providers.client import CURSOR_HEADER, DIRECTORY_PATH, FOLLOW, ROOM_HEADER
from linearized.server.providers.follow import MAX_SKIPPED, MAX_WAIT_SECONDS
from tests.server.test_fanout import roles

from .support import Provider, World, world

URL = f"https://a.example{PREFIX}/follow"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, store_in_thread=False) as found:
        yield found


async def call(
    w: World,
    method: str = "GET",
    *,
    cursor: str | None = None,
    wait: object = 0,
    skip: list[str] | None = None,
    sender: str = "b.example",
    certificate: str | None = None,
) -> httpx.Response:
    """One request to the endpoint, by default of the room's other provider."""
    query: dict[str, Any] = {"wait": wait} | ({"cursor": cursor} if cursor is not None else {})
    query |= {"skip": skip} if skip is not None else {}
    network = w.server.network
    origin = sender if certificate is None else certificate
    async with httpx.AsyncClient(transport=network.transport(origin), timeout=120) as client:
        return await client.request(method, URL, params=query, headers={"From": f"mimi@{sender}"})


async def followed(w: World) -> None:
    """b.example asks to fetch, and has fetched what there was."""
    assert (await call(w, "POST")).status_code == 204
    cursor = None
    while (answer := await call(w, cursor=cursor)).status_code == 200:
        cursor = answer.headers[CURSOR_HEADER]
    assert answer.status_code == 204


async def test_the_directory_lists_the_endpoint(here: World) -> None:
    async with httpx.AsyncClient(transport=here.server.network.transport("b.example")) as client:
        directory = (await client.get(f"https://a.example{DIRECTORY_PATH}")).json()
    assert directory[FOLLOW] == URL


async def test_a_provider_with_a_user_in_a_room_fetches_instead_of_being_notified(here: World) -> None:
    await followed(here)
    here.other.notified.clear()
    await here.server.node.rooms.submit(here.room_id, here.alice.message())
    await here.commit()
    answer = await call(here)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers[ROOM_HEADER] == here.uri
    assert roles(answer.content) == ["application", "commit"]
    assert (await call(here)).content == answer.content
    assert (await call(here, cursor=answer.headers[CURSOR_HEADER])).status_code == 204
    await trio.testing.wait_all_tasks_blocked()
    assert here.other.notified == []


async def test_it_gets_the_bytes_that_a_notification_would_have(here: World) -> None:
    await here.server.node.rooms.submit(here.room_id, here.alice.message())
    await trio.testing.wait_all_tasks_blocked()
    pushed = here.other.notified[-1]
    # As if that had not arrived.
    (row,) = here.server.node.store.followers(here.room_id)
    assert (await call(here, "POST")).status_code == 204
    await here.server.node.store.put_follower(
        type(row)(room_id=row.room_id, provider=row.provider, protocol=row.protocol, cursor=here.head() - 1)
    )
    answer = await call(here)
    assert decode_fanout_stream(pushed)[-1].encode() == answer.content


async def test_it_is_notified_again_when_it_wants_to_be(here: World) -> None:
    await followed(here)
    here.other.notified.clear()
    await here.server.node.rooms.submit(here.room_id, here.alice.message())
    assert (await call(here, "DELETE")).status_code == 204
    await trio.testing.wait_all_tasks_blocked()
    (body,) = here.other.notified
    assert roles(body) == ["application"]
    assert (await call(here)).status_code == 403


async def test_registering_twice_or_without_need_changes_nothing(here: World) -> None:
    assert (await call(here, "DELETE")).status_code == 204
    for _ in range(2):
        assert (await call(here, "POST")).status_code == 204
    assert here.server.node.store.pull_followers() == ["b.example"]


async def test_a_provider_without_a_user_in_a_room_is_refused(here: World) -> None:
    for method in ("POST", "GET"):
        assert (await call(here, method, sender="c.example")).status_code == 403
    assert here.server.node.store.pull_followers() == []
    assert (await call(here)).status_code == 403  # it could, but has not registered


async def test_nobody_fetches_in_anothers_name(here: World) -> None:
    assert (await call(here, "POST")).status_code == 204
    for method in ("POST", "GET", "DELETE"):
        assert (await call(here, method, certificate="c.example")).status_code == 401
        assert (await call(here, method, certificate="")).status_code == 401


async def test_a_cursor_that_was_not_given_is_refused_and_acknowledges_nothing(here: World) -> None:
    await followed(here)
    await here.server.node.rooms.submit(here.room_id, here.alice.message())
    answer = await call(here)
    good = answer.headers[CURSOR_HEADER]
    for cursor in ("", "x", good[:-3], f"A{good[1:]}", "x" * 3000):
        refused = await call(here, cursor=cursor)
        assert (refused.status_code, refused.json()["errcode"]) == (400, "M_INVALID_PARAM")
    assert (await call(here)).content == answer.content


async def test_the_cursor_of_another_follower_is_refused(tmp_path: Path) -> None:
    settings = {"c.example": ProviderConfig(fan_out="pull")}
    async with world(tmp_path, store_in_thread=False, providers=settings) as w:
        assert (await call(w, "POST")).status_code == 204
        await w.server.node.rooms.submit(w.room_id, w.alice.message())
        given = (await call(w)).headers[CURSOR_HEADER]
        assert (await call(w, cursor=given, sender="c.example")).status_code == 400
        assert (await call(w, sender="c.example")).status_code == 204


@pytest.mark.parametrize("wait", ["-1", "1.5", "soon", "", "\u0663"])
async def test_a_wait_that_is_no_number_of_seconds_is_refused(here: World, wait: str) -> None:
    assert (await call(here, "POST")).status_code == 204
    assert (await call(here, wait=wait)).status_code == 400


@pytest.mark.parametrize(("wait", "waited"), [(3, 3), (MAX_WAIT_SECONDS + 1, 50), ("9" * 5000, 50)])
async def test_a_wait_is_as_long_as_asked_for_up_to_a_bound(
    here: World, autojump_clock: trio.testing.MockClock, wait: object, waited: int
) -> None:
    await followed(here)
    started = autojump_clock.current_time()
    assert (await call(here, wait=wait)).status_code == 204
    assert autojump_clock.current_time() - started == waited


async def test_asking_again_ends_the_request_before_with_409(here: World) -> None:
    await followed(here)
    ended: list[tuple[int, str]] = []

    async def first() -> None:
        answer = await call(here, wait=50)
        ended.append((answer.status_code, answer.json()["errcode"]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        assert (await call(here)).status_code == 204
    assert ended == [(409, "M_BAD_STATE")]


async def test_a_removed_provider_gets_its_removal_and_then_410(here: World) -> None:
    await followed(here)
    await here.server.node.rooms.submit(here.room_id, here.alice.message())
    await here.server.node.rooms.submit(here.room_id, here.alice.remove(here.bob))
    here.alice.accept()
    await here.server.node.rooms.submit(here.room_id, here.alice.message())
    answer = await call(here)
    assert roles(answer.content) == ["application", "commit"]
    for _ in range(2):
        gone = await call(here, cursor=answer.headers[CURSOR_HEADER], wait=50)
        assert (gone.status_code, gone.json()["errcode"]) == (410, "M_FORBIDDEN")


async def test_the_operator_can_settle_that_a_provider_fetches(tmp_path: Path) -> None:
    settings = {"b.example": ProviderConfig(fan_out="pull")}
    async with world(tmp_path, store_in_thread=False, with_bob=False, providers=settings) as w:
        # Before it is in any room: it waits for the first.
        assert (await call(w)).status_code == 204
        await w.add(w.bob)
        await trio.testing.wait_all_tasks_blocked()
        await w.server.node.rooms.submit(w.room_id, w.alice.message())
        assert roles((await call(w)).content) == ["application"]
        assert (await call(w, "DELETE")).status_code == 403
        assert (await call(w, "POST")).status_code == 204
        assert w.server.node.store.pull_followers() == []
        assert w.other.notified == []


async def test_what_was_registered_is_remembered_by_a_hub_that_starts_again(tmp_path: Path) -> None:
    async with world(tmp_path, store_in_thread=False) as w:
        await followed(w)
        await w.server.node.rooms.submit(w.room_id, w.alice.message())
        given = await call(w)
        pulls = type(w.server.node.followers.pulls)
        again = pulls(store=w.server.node.store, key=w.server.node.identity.key)
        follower = again.get("b.example")
        assert follower is not None
        fetched = await follower.ask(None, wait=0)
        assert fetched is not None
        assert (fetched.body, fetched.cursor) == (given.content, given.headers[CURSOR_HEADER])


async def test_other_followers_are_notified_as_before(here: World) -> None:
    other = Provider("c.example", here.server.network)
    await followed(here)
    (row,) = here.server.node.store.followers(here.room_id)
    await here.server.node.store.put_follower(
        type(row)(room_id=row.room_id, provider="c.example", protocol=row.protocol, cursor=here.head())
    )
    await here.server.node.rooms.submit(here.room_id, here.alice.message())
    await trio.testing.wait_all_tasks_blocked()
    (body,) = other.notified
    assert (await call(here)).content == body
    assert room_uri(here.room_id) == here.uri


async def test_a_follower_leaves_rooms_out_but_not_too_many_and_no_nonsense(here: World) -> None:
    await followed(here)
    await here.server.node.rooms.submit(here.room_id, here.alice.message())
    assert (await call(here, skip=[here.uri])).status_code == 204
    assert (await call(here)).status_code == 200
    for wrong in ([here.uri] * (MAX_SKIPPED + 1), ["clubhouse"]):
        assert (await call(here, skip=wrong)).status_code == 400
