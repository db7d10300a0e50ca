"""Who is typing, from the homeserver to the provider and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from bridges.matrix import typists as module
from bridges.matrix.failures import RETRY_PAUSE
from bridges.matrix.links import Link, Phase
from bridges.matrix.names import Names
from bridges.matrix.typists import MAX_TYPISTS, PAUSE, TELL_SECONDS, Typists
from linearized.client import ApiError, ServerUnreachable, Session
from tests.bridges.fake_homeserver import DOMAIN, MatrixRoom
from tests.bridges.support import ALICE, CAROL, MATRIX_ROOM, World, open_world, push_events
from tests.bridges.test_import import history
from tests.client.support import drain

DAVE = "@dave:a.example"
GHOST_DAVE = f"@_lin_a.example_dave:{DOMAIN}"


def unit(*users: object, room_id: str = MATRIX_ROOM) -> dict[str, Any]:
    return {"type": "m.typing", "room_id": room_id, "content": {"user_ids": list(users)}}


@asynccontextmanager
async def shared(directory: Path) -> AsyncIterator[tuple[World, MatrixRoom, Session]]:
    """A bridged room in which dave is, a user of the provider that the bridge runs beside."""
    async with open_world(directory) as world:
        room = history(world.homeserver, 3)
        await world.import_room(room)
        dave = await world.club.device(world.hub, "dave")
        world.homeserver.member(room, GHOST_DAVE, "invite", sender=ALICE)
        assert await world.bridge.ghosts.answer_query(GHOST_DAVE)
        await world.settle()
        await dave.step(5000)
        await drain(dave)
        assert room.members[GHOST_DAVE] == "join"
        yield world, room, dave


async def typing_to(dave: Session, room_id: str) -> list[str]:
    """Who dave is told types."""
    answer = await dave.api.sync(since=None, timeout_ms=0)
    events = answer["rooms"]["join"][room_id]["ephemeral"]["events"]
    return [user for event in events if event["type"] == "m.typing" for user in event["content"]["user_ids"]]


async def test_who_types_in_matrix_types_at_the_provider(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, _, dave):
        room_id = world.room_id()
        await push_events(world.bridge, [], ephemeral=[unit(ALICE, CAROL, GHOST_DAVE)])
        await world.bridge.typists.tell()
        assert sorted(await typing_to(dave, room_id)) == [ALICE, CAROL]
        await push_events(world.bridge, [], ephemeral=[unit(CAROL)])
        await world.bridge.typists.tell()
        assert await typing_to(dave, room_id) == [CAROL]
        await push_events(world.bridge, [], ephemeral=[unit()])
        await world.bridge.typists.tell()
        assert await typing_to(dave, room_id) == []


async def test_the_ghost_of_who_types_at_the_provider_types(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, _, dave):
        room_id, typists = world.room_id(), world.bridge.typists
        await typists.look(0)
        await dave.api.set_typing(room_id, DAVE, types=True, timeout_ms=30_000)
        # Nor is what comes from the homeserver shown there as a ghost's.
        await push_events(world.bridge, [], ephemeral=[unit(ALICE)])
        await typists.tell()
        await typists.look(0)
        await typists.look(0)
        assert world.homeserver.typing == [(MATRIX_ROOM, GHOST_DAVE, True)]
        await dave.api.set_typing(room_id, DAVE, types=False, timeout_ms=0)
        await typists.look(0)
        assert world.homeserver.typing[1:] == [(MATRIX_ROOM, GHOST_DAVE, False)]


async def test_a_ghost_that_is_not_in_the_room_does_not_join_to_type(tmp_path: Path) -> None:
    async with shared(tmp_path) as (world, room, dave):
        world.homeserver.member(room, GHOST_DAVE, "leave", sender=ALICE)
        await dave.api.set_typing(world.room_id(), DAVE, types=True, timeout_ms=30_000)
        await world.bridge.typists.look(0)
        assert world.homeserver.typing == []
        assert room.members[GHOST_DAVE] == "leave"


class Links:
    """Links each room of the homeserver but an unknown one; of one the import still runs."""

    def of_matrix(self, matrix_room_id: str) -> Link | None:
        if matrix_room_id == "!unknown:matrix.example":
            return None
        phase = Phase.IMPORTING if matrix_room_id == "!importing:matrix.example" else Phase.LIVE
        return Link(
            matrix_room_id=matrix_room_id,
            room_id="!room:a.example",
            phase=phase,
            walk_token=None,
            walked=True,
        )


class Provider:
    """Notes what it is told of whom, when it has taken its ``seconds``; syncs fail."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.told: list[tuple[str, bool]] = []
        self.asked: list[float] = []

    def as_user(self, _: str) -> Provider:
        return self

    async def set_typing(self, _: str, user_id: str, *, types: bool, timeout_ms: int) -> None:
        assert timeout_ms > 0
        await trio.sleep(self.seconds)
        if user_id == CAROL:
            raise ApiError(403, "M_FORBIDDEN", "carol is not in the room")
        self.told.append((user_id, types))

    async def sync(self, **_: object) -> dict[str, Any]:
        self.asked.append(trio.current_time())
        raise ServerUnreachable("away")


def carrier(provider: Provider, *, wanted: bool = True) -> Typists:
    nothing: Any = None
    replaced: Any = (Links(), provider)
    return Typists(
        wanted=wanted,
        names=Names(domain=DOMAIN, prefix="_lin_"),
        ghosts=nothing,
        links=replaced[0],
        provider=replaced[1],
        bot="@_bridge:a.example",
    )


@pytest.mark.parametrize(
    "heard",
    [
        unit(ALICE, room_id="!unknown:matrix.example"),
        unit(ALICE, room_id="!importing:matrix.example"),
        unit(DAVE, GHOST_DAVE, "@_lin_bot:matrix.example", "", 7, None),
        {**unit(ALICE), "room_id": 7},
        {**unit(ALICE), "content": {"user_ids": ALICE}},
        {**unit(ALICE), "content": None},
        {**unit(ALICE), "type": "m.presence"},
        None,
    ],
)
async def test_what_is_nothing_to_the_bridge_is_not_told(heard: object) -> None:
    provider = Provider()
    typists = carrier(provider)
    typists.hear([heard])
    await typists.tell()
    assert provider.told == []


async def test_nothing_is_told_or_asked_unless_it_is_wanted(autojump_clock: trio.testing.MockClock) -> None:
    provider = Provider()
    typists = carrier(provider, wanted=False)
    typists.hear([unit(ALICE)])
    await typists.run()
    await typists.tell()
    assert (provider.told, provider.asked) == ([], [])


async def test_of_a_room_so_many_typists_are_told_and_of_all_rooms_so_many_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Provider()
    typists = carrier(provider)
    crowd = [f"@user{number:03}:{DOMAIN}" for number in range(MAX_TYPISTS + 5)]
    typists.hear([unit(*crowd)])
    await typists.tell()
    assert sorted(provider.told) == [(user, True) for user in crowd[:MAX_TYPISTS]]
    provider.told.clear()
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    typists.hear([unit(*crowd[:5], room_id=f"!{number}:{DOMAIN}") for number in range(4)])
    typists.hear([unit(room_id=f"!0:{DOMAIN}")])  # they have stopped, of whom three wait
    await typists.tell()
    assert len(provider.told) == 3
    assert not any(types for _, types in provider.told)


async def test_one_whom_the_provider_refuses_or_is_slow_about_keeps_nobody_else_waiting(
    autojump_clock: trio.testing.MockClock,
) -> None:
    provider = Provider()
    typists = carrier(provider)
    typists.hear([unit(CAROL), unit(ALICE, room_id=f"!other:{DOMAIN}")])
    await typists.tell()
    assert provider.told == [(ALICE, True)]
    provider.seconds = TELL_SECONDS + 1
    began = trio.current_time()
    typists.hear([unit(), unit(room_id=f"!other:{DOMAIN}")])
    await typists.tell()
    assert trio.current_time() - began == 2 * TELL_SECONDS
    assert provider.told == [(ALICE, True)]


async def test_what_is_heard_is_told_at_once_while_the_provider_cannot_be_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    provider = Provider()
    typists = carrier(provider)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(typists.run)
        await trio.sleep(1)
        typists.hear([unit(ALICE)])
        await trio.sleep(1)
        assert provider.told == [(ALICE, True)]
        await trio.sleep(3 * (RETRY_PAUSE + PAUSE))
        nursery.cancel_scope.cancel()
    assert len(provider.asked) == 4
