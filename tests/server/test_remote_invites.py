"""A user of another server is invited: the invite shows, is taken or turned down, and the room is there."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from linearized.client import ProviderApi
from linearized.server.opening import system_clock
from tests.server.support import PASSWORD, Network, Server, running_server

ROOM_STATE = {"m.room.create", "m.room.join_rules", "m.room.name", "m.room.member"}


async def signed_in(server: Server, user_id: str) -> ProviderApi:
    api = ProviderApi(
        f"https://{server.name}",
        token=None,
        http=server.http(),
        clock=system_clock,
        ids=secrets.token_urlsafe,
    )
    return api.with_login(await api.login(user_id, PASSWORD))


@pytest.fixture
async def users(tmp_path: Path) -> AsyncIterator[tuple[ProviderApi, ProviderApi]]:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
    ):
        yield await signed_in(a, await a.user("alice")), await signed_in(b, await b.user("bob"))


async def invited_room(alice: ProviderApi, bob: ProviderApi) -> str:
    room_id = await alice.create_room(preset="private_chat", name="Plans")
    await alice.invite(room_id, "@bob:b.example")
    invites = (await bob.sync(since=None, timeout_ms=0))["rooms"]["invite"]
    state = invites[room_id]["invite_state"]["events"]
    assert {event["type"] for event in state} == ROOM_STATE
    assert all(event.keys() == {"type", "sender", "state_key", "content"} for event in state)
    return room_id


async def test_an_invite_is_shown_with_the_rooms_face_and_taken(
    users: tuple[ProviderApi, ProviderApi],
) -> None:
    alice, bob = users
    room_id = await invited_room(alice, bob)
    await bob.join(room_id)
    assert "@bob:b.example" in await alice.joined_members(room_id)
    rooms = (await bob.sync(since=None, timeout_ms=0))["rooms"]
    assert room_id in rooms["join"]
    assert room_id not in rooms["invite"]
    sent = await bob.send_event(room_id, "m.room.message", {"msgtype": "m.text", "body": "Here"}, txn_id="1")
    assert (await alice.event(room_id, sent))["content"]["body"] == "Here"


async def test_an_invite_is_turned_down_at_the_hub(users: tuple[ProviderApi, ProviderApi]) -> None:
    alice, bob = users
    room_id = await invited_room(alice, bob)
    await bob.leave(room_id)
    assert room_id not in (await bob.sync(since=None, timeout_ms=0))["rooms"]["invite"]
    members = [e for e in await alice.state(room_id) if e.get("state_key") == "@bob:b.example"]
    assert [event["content"]["membership"] for event in members] == ["leave"]


async def test_a_second_invite_shows_the_room_as_it_is_by_then(
    users: tuple[ProviderApi, ProviderApi],
) -> None:
    alice, bob = users
    room_id = await invited_room(alice, bob)
    await bob.leave(room_id)
    await alice.send_state(room_id, "m.room.name", "", {"name": "Other plans"})
    await alice.invite(room_id, "@bob:b.example")
    state = (await bob.sync(since=None, timeout_ms=0))["rooms"]["invite"][room_id]["invite_state"]["events"]
    names = [event["content"]["name"] for event in state if event["type"] == "m.room.name"]
    assert names == ["Other plans"]


async def test_a_room_we_have_no_copy_of_takes_nothing_but_the_answer(
    users: tuple[ProviderApi, ProviderApi],
) -> None:
    alice, bob = users
    room_id = await invited_room(alice, bob)
    with pytest.raises(Exception, match=r"40[34]"):
        await bob.send_event(room_id, "m.room.message", {"body": "Early"}, txn_id="1")
