"""What an operator sees of rooms, and nobody else does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from linearized.client import DecryptedMessage, Session
from linearized.server.clients import operators as module
from linearized.store.base import FollowerRow, RoomAppend
from tests.client.support import drain, message
from tests.client.test_real_server import Club, drain_until, new_room, open_club
from tests.server.clients.support import MLS, part, room
from tests.server.support import PASSWORD, Server

OPERATOR = "@root:a.example"


@dataclass
class World:
    """Two providers with a room, and an operator of the first who is in no room."""

    club: Club
    hub: Server
    other: Server
    alice: Session
    bob: Session
    room_id: str
    tokens: dict[str, str]

    async def settled(self) -> None:
        """Wait until the hub has heard that everything was taken."""
        row, progress = self.hub.node.store.room(self.room_id), self.hub.node.followers.progress
        assert row is not None
        (follower,) = self.hub.node.store.followers(self.room_id)
        with trio.fail_after(60):
            while progress.of(follower).cursor < row.head_seq:
                await trio.lowlevel.checkpoint()

    async def get(self, path: str, *, user: str = "root", server: Server | None = None) -> httpx.Response:
        """What an account is answered."""
        asked = server or self.hub
        async with asked.http() as http:
            if user not in self.tokens:
                identifier = {"type": "m.id.user", "user": user}
                body = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
                login = await http.post("/_matrix/client/v3/login", json=body)
                self.tokens[user] = login.json()["access_token"]
            return await http.get(path, headers={"authorization": f"Bearer {self.tokens[user]}"})

    async def ok(self, path: str, **options: Any) -> Any:
        answer = await self.get(path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_club(tmp_path) as club:
        hub = await club.server("a.example", operators=(OPERATOR,))
        other = await club.server("b.example")
        alice, bob = await club.device(hub, "alice"), await club.device(other, "bob")
        for name in ("root", "carol"):
            await hub.user(name)
        room_id = await new_room(alice)
        await alice.groups.invite(room_id, [bob.device.owner.user_id])
        await alice.send(room_id, message("hello b"))
        await drain_until(bob, DecryptedMessage)
        await drain(alice)
        found = World(club, hub, other, alice, bob, room_id, {})
        await found.settled()
        yield found


ROOMS = f"{MLS}/operator/rooms"


def of(room_id: str) -> str:
    return f"{ROOMS}/{part(room_id)}"


def group_of(room_id: str) -> str:
    return f"{room(room_id, MLS)}/mls/members"


async def test_a_follower_that_is_up_to_date_lags_by_nothing(world: World) -> None:
    row = world.hub.node.store.room(world.room_id)
    assert row is not None
    described = {
        "room_id": world.room_id,
        "role": "hub",
        "hub": "a.example",
        "head_seq": row.head_seq,
        "epoch": row.epoch,
    }
    answer = await world.ok(ROOMS)
    assert answer == {"rooms": [{**described, "followers": 1, "lag": 0}], "total": 1}
    follower = {
        "provider": "b.example",
        "protocol": "mimi",
        "cursor": row.head_seq,
        "lag": 0,
        "ends": False,
    }
    assert await world.ok(of(world.room_id)) == {**described, "followers": [follower]}


async def test_a_follower_that_is_down_lags_by_what_it_lacks_since_it_came(world: World) -> None:
    world.club.network.down.add("b.example")
    first = await world.alice.send(world.room_id, message("unheard"))
    await world.alice.send(world.room_id, message("also unheard"))
    (follower,) = (await world.ok(of(world.room_id)))["followers"]
    entry = world.hub.node.store.entry_by_id(first.event_id)
    assert entry is not None
    assert (follower["lag"], follower["cursor"]) == (2, entry.seq - 1)
    assert follower["waiting_since_ts"] == entry.origin_server_ts
    empty = await new_room(world.alice)
    answer = await world.ok(f"{ROOMS}?limit=1")
    assert [(shown["room_id"], shown["lag"]) for shown in answer["rooms"]] == [(world.room_id, 2)]
    assert answer["total"] == 2
    assert [shown["room_id"] for shown in (await world.ok(ROOMS))["rooms"]] == [world.room_id, empty]


async def test_a_follower_that_ends_is_to_have_what_there_was_and_then_is_none(world: World) -> None:
    store, head = world.hub.node.store, world.hub.node.store.room(world.room_id)
    assert head is not None
    ended = FollowerRow(room_id=world.room_id, provider="c.example", protocol="mimi", cursor=1, stop_seq=3)
    done = FollowerRow(room_id=world.room_id, provider="d.example", protocol="mimi", cursor=3, stop_seq=3)
    await store.append(RoomAppend(room_id=world.room_id, followers=(ended, done)))
    found = (await world.ok(of(world.room_id)))["followers"]
    assert [(each["provider"], each["lag"], each["ends"]) for each in found] == [
        ("b.example", 0, False),
        ("c.example", 2, True),
        ("d.example", 0, True),
    ]
    (listed,) = (await world.ok(ROOMS))["rooms"]
    assert (listed["followers"], listed["lag"]) == (2, 2)


async def test_the_group_is_shown_by_leaf(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [
        {"leaf_index": 0, "user_id": "@alice:a.example", "device_id": "DEV"},
        {"leaf_index": 1, "user_id": "@bob:b.example", "device_id": "DEV"},
    ]
    epoch = world.alice.device.epoch(world.room_id)
    path = group_of(world.room_id)
    assert await world.ok(path) == {"epoch": epoch, "total": 2, "members": members}
    first = await world.ok(f"{path}?limit=1")
    assert first == {"epoch": epoch, "total": 2, "members": members[:1], "next": 1}
    assert (await world.ok(f"{path}?from={first['next']}"))["members"] == members[1:]
    monkeypatch.setattr(module, "leaf_credentials", lambda _: dict.fromkeys((0, 1), b"\x00\x09\x00"))
    assert (await world.ok(path))["members"] == [{"leaf_index": 0}, {"leaf_index": 1}]


async def test_a_member_sees_the_group_of_their_room_and_not_its_followers(world: World) -> None:
    assert (await world.ok(group_of(world.room_id), user="alice"))["total"] == 2
    assert (await world.get(of(world.room_id), user="alice")).status_code == 403
    assert (await world.get(ROOMS, user="alice")).status_code == 403


async def test_to_anybody_else_there_is_nothing(world: World) -> None:
    unknown = "!nothing:a.example"
    for make in (of, group_of):
        known = await world.get(make(world.room_id), user="carol")
        other = await world.get(make(unknown), user="carol")
        assert (known.status_code, known.json()["errcode"]) == (403, "M_FORBIDDEN")
        assert known.json() == other.json()
    assert (await world.get(ROOMS, user="carol")).json()["errcode"] == "M_FORBIDDEN"


async def test_an_operator_is_told_of_what_is_not_there(world: World) -> None:
    assert (await world.get(of("!nothing:a.example"))).status_code == 404
    assert (await world.get(group_of("!nothing:a.example"))).status_code == 404
    plain = await world.alice.api.create_room(room_version="I.1")
    nobody = {"total": 0, "members": []}
    assert await world.ok(group_of(plain)) == nobody
    # Only the hub keeps the group.
    assert await world.ok(group_of(world.room_id), user="bob", server=world.other) == nobody


async def test_a_client_learns_whether_its_user_is_an_operator(world: World) -> None:
    for user, expected in (("root", True), ("alice", False)):
        answer = await world.ok("/_matrix/client/v3/capabilities", user=user)
        assert answer["capabilities"]["dev.linearized.operator"] == {"enabled": expected}
