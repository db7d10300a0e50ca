from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from bridges.matrix import audit, failures
from bridges.matrix.database import Database
from bridges.matrix.failures import MAX_TRIES, persist
from bridges.matrix.ghosts import Ghosts
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.process import listen
from linearized.client import ALGORITHM, ApiError, CommitLost, CommitRefused, ServerUnreachable, Session
from linearized.mimi.franking import FrankAAD
from linearized.mimi.participants import FRANK_AAD
from linearized.protocol.base64 import encode_base64
from tests.bridges.fake_homeserver import DOMAIN
from tests.bridges.support import (
    ALICE,
    BOB,
    BOT,
    GHOST_BOB,
    HS_TOKEN,
    MATRIX_ROOM,
    World,
    bob_of_b,
    bridge_config,
    call,
    open_world,
)
from tests.bridges.test_import import history
from tests.bridges.test_live import body_of, by, heard
from tests.client.support import drain, message


async def until(condition: Any) -> None:
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - both sides are real programs that know no event of ours
            await trio.sleep(0.02)


async def test_inviting_the_bot_is_all_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "RETRY_PAUSE", 0.05)
    async with talking_loops(tmp_path) as (world, bob):
        room = history(world.homeserver, 60)
        world.homeserver.member(room, BOT, "invite", sender=ALICE)
        await until(lambda: (link := world.bridge.links.of_matrix(MATRIX_ROOM)) and link.phase == "live")
        world.homeserver.member(room, GHOST_BOB, "invite", sender=ALICE)
        assert await world.bridge.ghosts.answer_query(GHOST_BOB)
        await until(lambda: room.members[GHOST_BOB] == "join")
        await drain(bob)
        world.homeserver.say(room, BOB, "to mimi")
        assert [body_of(item) for item in await heard(bob)] == ["to mimi"]
        # The provider goes away and comes back: what was said meanwhile arrives.
        world.club.network.down.add("a.example")
        world.homeserver.say(room, BOB, "while it was away")
        await trio.sleep(0.2)
        world.club.network.down.clear()
        assert [body_of(item) for item in await heard(bob)] == ["while it was away"]
        await bob.send(world.room_id(), message("to matrix"))
        await until(lambda: by(room, GHOST_BOB))


async def test_what_the_homeserver_kept_and_never_sends_is_found_soon_after_it_has_recovered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "RECOVERY_SECONDS", 0.05)
    async with talking_loops(tmp_path) as (world, bob):
        room = history(world.homeserver, 3)
        world.homeserver.member(room, BOT, "invite", sender=ALICE)
        await until(lambda: (link := world.bridge.links.of_matrix(MATRIX_ROOM)) and link.phase == "live")
        world.homeserver.member(room, GHOST_BOB, "invite", sender=ALICE)
        assert await world.bridge.ghosts.answer_query(GHOST_BOB)
        await until(lambda: room.members[GHOST_BOB] == "join")
        await drain(bob)
        world.homeserver.say(room, BOB, "stored, and not sent", push=False)
        # The homeserver tries a transaction again, and nothing comes after it.
        for _ in range(2):
            assert (
                await call(world.bridge, "PUT", "/_matrix/app/v1/transactions/again", {"events": []}) == 200
            )
        assert [body_of(item) for item in await heard(bob)] == ["stored, and not sent"]


@asynccontextmanager
async def talking_loops(tmp_path: Path) -> AsyncIterator[tuple[World, Session]]:
    """A bridge whose loops run, and bob of b.example."""
    async with open_world(tmp_path) as world:
        bob = await bob_of_b(world)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.bridge.run)
            nursery.start_soon(deliver, world)
            yield world, bob
            nursery.cancel_scope.cancel()


async def deliver(world: World) -> None:
    while True:
        await world.push()
        await trio.sleep(0.02)


async def test_what_cannot_be_read_is_said_in_the_room(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 1)
        room_id = await world.import_room(room)
        alice = await world.bridge.puppets.follow(ALICE)
        outgoing = alice.device.group(room_id).encrypt(
            b"no MIMI content", safe_aad={FRANK_AAD: FrankAAD(franking_tag=bytes(32)).encode()}
        )
        content = {"algorithm": ALGORITHM, "ciphertext": encode_base64(outgoing), "commit_event_id": ""}
        await alice.api.send_event(room_id, "m.room.encrypted", content, txn_id="t")
        await world.settle()
        (notice,) = by(room, BOT)
        assert notice["content"]["msgtype"] == "m.notice"


async def test_somebody_removed_by_another_provider_is_removed_in_matrix(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 1)
        room_id = await world.import_room(room)
        dan = await world.club.device(world.hub, "dan")
        bot = world.bridge.puppets.bot
        await bot.groups.invite(room_id, [dan.device.owner.user_id], roles={dan.device.owner.user_id: 2})
        await drain(dan)
        await dan.groups.remove_users(room_id, [BOB])
        await world.settle()
        assert room.members[BOB] == "leave"
        assert not world.bridge.puppets.session(BOB).device.in_group(room_id)


async def test_the_application_service_listens(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, trio.open_nursery() as nursery:
        (url,) = await nursery.start(listen, world.bridge)
        async with httpx.AsyncClient(trust_env=False) as http:
            headers = {"Authorization": f"Bearer {HS_TOKEN}"}
            answer = await http.post(f"{url}/_matrix/app/v1/ping", json={}, headers=headers)
        assert (answer.status_code, answer.json()) == (200, {})
        nursery.cancel_scope.cancel()


async def test_a_homeserver_that_does_not_know_us_stops_the_bridge_with_its_reason(tmp_path: Path) -> None:
    async def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401, json={"errcode": "M_UNKNOWN_TOKEN", "error": "who?"})

    database = Database(":memory:")
    async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as http:
        names = bridge_config(tmp_path, "t" * 40).names
        ghosts = Ghosts(HomeserverApi(f"https://{DOMAIN}", token="x", http=http), database, names)
        with pytest.raises(ApiError, match="who"):
            await ghosts.ensure_bot()
    database.close()


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (CommitRefused(2, "no"), 1),
        (ApiError(403, "M_FORBIDDEN", "no"), 1),
        (CommitLost("again"), MAX_TRIES),
    ],
)
async def test_what_will_not_work_is_given_up(
    error: Exception, tries: int, autojump_clock: MockClock
) -> None:
    count = 0

    async def work() -> None:
        nonlocal count
        count += 1
        raise error

    assert await persist(work) is error
    assert count == tries


async def test_what_passes_is_waited_for(autojump_clock: MockClock) -> None:
    errors: list[Exception] = [
        ServerUnreachable("x"),
        ApiError(503, "M_X", "x"),
        ApiError(429, "M_X", "x"),
    ] * 9

    async def work() -> None:
        if errors:
            raise errors.pop()

    assert await persist(work) is None
    assert not errors


async def test_a_fault_of_our_own_is_not_taken_for_one_of_theirs() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await persist(work)


async def test_an_unknown_ghost_does_not_exist(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        for user, status in ((BOT, 404), (f"@_lin_x:{DOMAIN}", 404), (GHOST_BOB, 200)):
            assert await call(world.bridge, "GET", f"/_matrix/app/v1/users/{user}") == status
        assert GHOST_BOB in world.homeserver.users
        # A ghost that exists at the homeserver, though our database does not know it, gets our device.
        other = f"@_lin_b.example_ann:{DOMAIN}"
        world.homeserver.users.add(other)
        assert await world.bridge.ghosts.answer_query(other)
        assert (other, "LINEARIZED") in world.homeserver.devices


async def test_a_room_that_needs_an_invitation_gives_the_ghost_one(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 1)
        await world.import_room(room)
        room.public = False
        await world.bridge.ghosts.ensure_joined(MATRIX_ROOM, GHOST_BOB)
        assert room.members[GHOST_BOB] == "join"
