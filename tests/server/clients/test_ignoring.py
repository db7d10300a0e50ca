"""Whom a user ignores, they hear nothing from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from linearized.store.base import Reply, Role
from tests.server.clients.rows import append
from tests.server.clients.support import Client, Server, part, room

SLIDING = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"


async def ignore(client: Client, *users: str) -> None:
    path = f"/user/{part(client.user_id)}/account_data/m.ignored_user_list"
    (await client.call("PUT", path, {"ignored_users": {user_id: {} for user_id in users}})).ok()


async def together(alice: Client, bob: Client) -> str:
    room_id = await alice.create_room(invite=[bob.user_id], power_level_content_override={"state_default": 0})
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    return room_id


def bodies(events: Sequence[Any]) -> list[str]:
    return [event["content"]["body"] for event in events if event["type"] == "m.room.message"]


async def everywhere(client: Client, room_id: str, middle: str) -> list[list[str]]:
    """What is said in the room by each way of reading it."""
    first = (await client.sync())["rooms"]["join"][room_id]["timeline"]["events"]
    page = (await client.call("GET", f"{room(room_id)}/messages", query={"dir": "f", "limit": 99})).ok()
    around = (await client.call("GET", f"{room(room_id)}/context/{part(middle)}")).ok()
    wish = {"lists": {"all": {"ranges": [[0, 9]], "timeline_limit": 20, "required_state": []}}}
    slid = (await client.call("POST", SLIDING, wish)).ok()["rooms"][room_id]["timeline"]
    criteria = {"room_events": {"search_term": "said", "order_by": "recent"}}
    hits = (await client.call("POST", "/search", {"search_categories": criteria})).ok()
    results = [each["result"] for each in hits["search_categories"]["room_events"]["results"]]
    beside = [*around["events_before"][::-1], around["event"], *around["events_after"]]
    return [bodies(events) for events in (first, page["chunk"], beside, slid, results[::-1])]


async def test_what_an_ignored_user_says_is_told_nowhere_until_they_are_ignored_no_more(
    alice: Client, bob: Client
) -> None:
    room_id = await together(alice, bob)
    await bob.send(room_id, "bob said", "1")
    middle = (await alice.send(room_id, "alice said", "2")).ok()["event_id"]
    await bob.send(room_id, "bob said more", "3")
    whole = [["bob said", "alice said", "bob said more"]] * 5
    assert await everywhere(alice, room_id, middle) == whole
    await ignore(alice, bob.user_id)
    assert await everywhere(alice, room_id, middle) == [["alice said"]] * 5
    assert await everywhere(bob, room_id, middle) == whole
    await ignore(alice)
    assert await everywhere(alice, room_id, middle) == whole


async def test_the_state_they_set_is_told(alice: Client, bob: Client) -> None:
    room_id = await together(alice, bob)
    await ignore(alice, bob.user_id)
    since = (await alice.sync())["next_batch"]
    (await bob.call("PUT", f"{room(room_id)}/state/m.room.name", {"name": "Bob's"})).ok()
    (told,) = (await alice.sync(since))["rooms"]["join"][room_id]["timeline"]["events"]
    assert (told["type"], told["sender"]) == ("m.room.name", bob.user_id)


async def test_their_messages_are_not_unread_and_belong_to_no_others(alice: Client, bob: Client) -> None:
    room_id = await together(alice, bob)
    root = (await alice.send(room_id, "root", "1")).ok()["event_id"]
    answer = {
        "msgtype": "m.text",
        "body": "answer",
        "m.relates_to": {"rel_type": "m.thread", "event_id": root},
    }
    (await bob.call("PUT", f"{room(room_id)}/send/m.room.message/2", answer)).ok()

    async def looked() -> tuple[int, bool]:
        joined = (await alice.sync())["rooms"]["join"][room_id]
        event = (await alice.call("GET", f"{room(room_id)}/event/{part(root)}")).ok()
        return joined["unread_notifications"]["notification_count"], "m.relations" in event["unsigned"]

    assert await looked() == (1, True)
    await ignore(alice, bob.user_id)
    assert await looked() == (0, False)


async def test_their_invitations_are_not_told(server: Server, alice: Client, bob: Client) -> None:
    await ignore(alice, bob.user_id)
    ours = await bob.create_room(invite=[alice.user_id])
    theirs = "!tea:c.example"
    face = [
        {"type": "m.room.member", "state_key": alice.user_id, "sender": bob.user_id, "content": {}},
        {"type": "m.room.name", "state_key": "", "sender": "@x:c.example", "content": {"name": "Tea"}},
    ]
    key, value = f"{theirs} {alice.user_id}", orjson.dumps(face).decode()
    await server.store.put_reply(Reply(scope="invite state", key=key, value=value))
    await append(server.store, theirs, role=Role.PARTICIPANT, memberships={alice.user_id: "invite"})

    async def invited() -> tuple[set[str], set[str]]:
        wish = {"lists": {"all": {"ranges": [[0, 9]], "timeline_limit": 1, "required_state": []}}}
        slid = (await alice.call("POST", SLIDING, wish)).ok()
        assert slid["lists"]["all"]["count"] == len(slid["rooms"])
        return set((await alice.sync())["rooms"]["invite"]), set(slid["rooms"])

    assert await invited() == (set(), set())
    await ignore(alice)
    assert await invited() == ({ours, theirs}, {ours, theirs})


@pytest.mark.parametrize("content", [{}, {"ignored_users": ["@bob:a.example"]}, {"ignored_users": None}])
async def test_a_list_of_another_shape_ignores_nobody(alice: Client, bob: Client, content: Any) -> None:
    room_id = await together(alice, bob)
    path = f"/user/{part(alice.user_id)}/account_data/m.ignored_user_list"
    (await alice.call("PUT", path, content)).ok()
    await bob.send(room_id, "bob said", "1")
    assert bodies((await alice.sync())["rooms"]["join"][room_id]["timeline"]["events"]) == ["bob said"]


async def test_nobody_ignores_themselves(alice: Client, bob: Client) -> None:
    room_id = await together(alice, bob)
    await ignore(alice, alice.user_id)
    await alice.send(room_id, "alice said", "1")
    assert bodies((await alice.sync())["rooms"]["join"][room_id]["timeline"]["events"]) == ["alice said"]
