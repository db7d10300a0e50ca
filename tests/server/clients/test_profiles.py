"""Profiles: of the account, and in the rooms it is in."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from linearized.room.submissions import LocalEvent, Reason, Rejected
from linearized.server.clients import profiles as module
from linearized.server.clients.profiles import MAX_AVATAR, MAX_NAME, PROPAGATION_SECONDS
from linearized.server.deciding import Overloaded
from linearized.server.outbound import OutboundError
from linearized.server.providers.client import ProviderError
from linearized.server.rooms import Rooms
from linearized.store.base import Role
from tests.server.clients.rows import append
from tests.server.clients.support import ENCRYPTED_ROOM, KNOCKABLE, Client, Server, part, room

AVATAR = "mxc://a.example/picture"


def own(client: Client, field: str = "") -> str:
    return f"/profile/{part(client.user_id)}" + (f"/{field}" if field else "")


async def name(client: Client, value: str | None, field: str = "displayname") -> None:
    assert (await client.call("PUT", own(client, field), {field: value})).ok() == {}


async def membership(client: Client, room_id: str) -> Any:
    return (await client.call("GET", f"{room(room_id)}/state/m.room.member/{part(client.user_id)}")).ok()


async def test_a_profile_is_set_seen_by_others_and_taken_away(alice: Client, bob: Client) -> None:
    assert (await bob.call("GET", own(alice))).ok() == {}
    (await bob.call("GET", own(alice, "displayname"))).refused(404, "M_NOT_FOUND")
    await name(alice, "Alice")
    await name(alice, AVATAR, "avatar_url")
    assert (await bob.call("GET", own(alice))).ok() == {"displayname": "Alice", "avatar_url": AVATAR}
    assert (await bob.call("GET", own(alice, "displayname"))).ok() == {"displayname": "Alice"}
    assert (await bob.call("GET", own(alice, "avatar_url"))).ok() == {"avatar_url": AVATAR}
    await name(alice, None)
    await name(alice, "", "avatar_url")
    assert (await bob.call("GET", own(alice))).ok() == {}


async def test_a_new_name_is_told_in_every_room_once(alice: Client, bob: Client) -> None:
    rooms = [await alice.create_room(invite=[bob.user_id]), await alice.create_room()]
    left = await alice.create_room()
    (await alice.call("POST", f"{room(left)}/leave")).ok()
    (await bob.call("POST", f"/join/{part(rooms[0])}", {})).ok()
    since = (await bob.sync())["next_batch"]
    await name(alice, "Alice")
    await name(alice, "Alice")
    for room_id in rooms:
        assert await membership(alice, room_id) == {"membership": "join", "displayname": "Alice"}
    events = (await bob.sync(since))["rooms"]["join"][rooms[0]]["timeline"]["events"]
    assert [event["content"] for event in events] == [{"membership": "join", "displayname": "Alice"}]
    assert await membership(alice, left) == {"membership": "leave"}


async def test_an_encrypted_room_is_told_too(alice: Client) -> None:
    room_id = await alice.create_room(room_version="dev.linearized.1", creation_content=ENCRYPTED_ROOM)
    await name(alice, "Alice")
    assert (await membership(alice, room_id))["displayname"] == "Alice"


async def test_whoever_joins_or_creates_a_room_is_known_there_by_their_name(
    alice: Client, bob: Client
) -> None:
    await name(bob, "Bob")
    await name(alice, "Alice")
    room_id = await alice.create_room(invite=[bob.user_id])
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    for client, wanted in ((alice, "Alice"), (bob, "Bob")):
        assert (await membership(client, room_id))["displayname"] == wanted


async def test_a_knock_says_no_name(alice: Client, bob: Client) -> None:
    await name(bob, "Bob")
    room_id = await alice.create_room(initial_state=[KNOCKABLE])
    (await bob.call("POST", f"/knock/{part(room_id)}", {})).ok()
    path = f"{room(room_id)}/state/m.room.member/{part(bob.user_id)}"
    assert (await alice.call("GET", path)).ok() == {"membership": "knock"}


async def test_what_else_stands_in_a_membership_stays(alice: Client) -> None:
    room_id = await alice.create_room()
    path = f"{room(room_id)}/state/m.room.member/{part(alice.user_id)}"
    content = {"membership": "join", "displayname": "Here", "org.example.x": 1, "reason": "because"}
    (await alice.call("PUT", path, content)).ok()
    await name(alice, "Alice")
    assert await membership(alice, room_id) == {
        "membership": "join",
        "displayname": "Alice",
        "org.example.x": 1,
    }


@pytest.mark.parametrize(
    "error",
    [
        Rejected(Reason.FORBIDDEN, "no"),
        OutboundError("no answer"),
        ProviderError("no answer"),
        Overloaded("busy"),
        trio.TooSlowError(),
    ],
)
async def test_a_room_that_does_not_take_the_name_keeps_the_old_one(
    alice: Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    room_id = await alice.create_room()

    async def refuse(self: Rooms, room_id: str, event: LocalEvent) -> str:
        raise error

    monkeypatch.setattr(Rooms, "send", refuse)
    await name(alice, "Alice")
    assert await membership(alice, room_id) == {"membership": "join"}
    assert (await alice.call("GET", own(alice))).ok() == {"displayname": "Alice"}


async def test_a_room_of_a_mimi_hub_is_not_told(server: Server, alice: Client) -> None:
    followed = "!f:b.example"
    await append(server.store, followed, role=Role.FOLLOWER, memberships={alice.user_id: "join"})
    await name(alice, "Alice")
    assert server.store.entries(followed, after=0, limit=9) == []


async def test_slow_rooms_are_not_waited_for_for_ever(
    alice: Client, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    for _ in range(5):
        await alice.create_room()
    told: list[str] = []

    async def slow(self: Rooms, room_id: str, event: LocalEvent) -> str:
        await trio.sleep(PROPAGATION_SECONDS / 2)
        told.append(room_id)
        return "$1"

    monkeypatch.setattr(Rooms, "send", slow)
    await name(alice, "Alice")
    assert len(told) == 2


async def test_only_so_many_rooms_are_told(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROOMS", 1)
    rooms = [await alice.create_room() for _ in range(2)]
    await name(alice, "Alice")
    assert ["displayname" in await membership(alice, room_id) for room_id in rooms] == [True, False]


async def test_the_profile_of_another_is_none_of_ones_own(alice: Client, bob: Client) -> None:
    answer = await alice.call("PUT", own(bob, "displayname"), {"displayname": "Bo"})
    answer.refused(403, "M_FORBIDDEN")
    assert (await alice.call("GET", own(bob))).ok() == {}


@pytest.mark.parametrize(
    ("field", "value", "refusal"),
    [
        ("displayname", "x" * (MAX_NAME + 1), (400, "M_INVALID_PARAM")),
        ("displayname", 7, (400, "M_BAD_JSON")),
        ("avatar_url", "mxc://" + "x" * MAX_AVATAR, (400, "M_INVALID_PARAM")),
        ("avatar_url", "https://a.example/x", (400, "M_INVALID_PARAM")),
        ("birthday", "x", (404, "M_UNRECOGNIZED")),
    ],
)
async def test_what_is_no_profile_is_refused(
    alice: Client, field: str, value: Any, refusal: tuple[int, str]
) -> None:
    (await alice.call("PUT", own(alice, field), {field: value})).refused(*refusal)
    assert (await alice.call("GET", own(alice))).ok() == {}


async def test_a_profile_is_there_for_our_users_only(alice: Client) -> None:
    for rest in ("", "/displayname"):
        for user_id in ("@nobody:a.example", "@x:b.example"):
            (await alice.call("GET", f"/profile/{part(user_id)}{rest}")).refused(404, "M_NOT_FOUND")
    (await alice.call("GET", "/profile/x")).refused(400, "M_INVALID_PARAM")
