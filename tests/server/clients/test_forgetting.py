"""Forgetting a room: after leaving it, and until one is asked in again."""

from __future__ import annotations

import pytest

from tests.server.clients.support import Client, Server, part, room

LEFT = {"filter": '{"room":{"include_leave":true}}'}


@pytest.fixture
async def left(alice: Client, bob: Client) -> str:
    """A room that Bob was in."""
    room_id = await alice.create_room(invite=[bob.user_id])
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    (await bob.call("POST", f"{room(room_id)}/leave")).ok()
    return room_id


async def test_a_forgotten_room_is_told_of_no_more(alice: Client, bob: Client, left: str) -> None:
    assert left in (await bob.sync(**LEFT))["rooms"]["leave"]
    (await bob.call("GET", f"{room(left)}/messages", query={"dir": "b"})).ok()
    assert (await bob.call("POST", f"{room(left)}/forget")).ok() == {}
    assert (await bob.call("POST", f"{room(left)}/forget", {})).ok() == {}
    assert (await bob.sync(**LEFT))["rooms"]["leave"] == {}
    (await bob.call("GET", f"{room(left)}/messages", query={"dir": "b"})).refused(403, "M_FORBIDDEN")
    (await alice.call("GET", f"{room(left)}/messages", query={"dir": "b"})).ok()


async def test_whoever_is_asked_in_again_sees_the_room_again(alice: Client, bob: Client, left: str) -> None:
    (await bob.call("POST", f"{room(left)}/forget")).ok()
    (await alice.call("POST", f"{room(left)}/invite", {"user_id": bob.user_id})).ok()
    assert left in (await bob.sync())["rooms"]["invite"]
    (await bob.call("POST", f"/join/{part(left)}", {})).ok()
    assert left in (await bob.sync())["rooms"]["join"]
    (await bob.call("POST", f"{room(left)}/leave")).ok()
    assert left in (await bob.sync(**LEFT))["rooms"]["leave"]


async def test_a_device_that_did_not_hear_of_leaving_still_does(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    since = (await bob.sync())["next_batch"]
    (await bob.call("POST", f"{room(room_id)}/leave")).ok()
    (await bob.call("POST", f"{room(room_id)}/forget")).ok()
    assert room_id in (await bob.sync(since))["rooms"]["leave"]


async def test_only_a_room_one_has_left_can_be_forgotten(server: Server, alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    for client in (alice, bob):
        (await client.call("POST", f"{room(room_id)}/forget")).refused(400, "M_UNKNOWN")
    assert room_id in (await alice.sync())["rooms"]["join"]
    eve = await server.user("eve")
    refusals = [
        (await eve.call("POST", f"{room(other)}/forget")).refused(403, "M_FORBIDDEN")
        for other in (room_id, "!no:a.example")
    ]
    assert refusals[0] == refusals[1]
