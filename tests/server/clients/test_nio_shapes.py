"""What matrix-nio 0.26 insists on in the answers it reads, checked against ours.

nio validates answers and events and turns what fails into error values, so one missing member makes a client
of it stop working. The tables list the members it requires and their types; they were read from its
``schemas.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from linearized.server.clients.passwords import SALT_BYTES, hash_password
from linearized.store.base import UserRow
from tests.server.clients.mls_support import MlsDevice, use_real_time
from tests.server.clients.support import BOT, ENCRYPTED_ROOM, MLS, START_MS, V3, Client, Server, part, room

Shape = Mapping[str, type]

LOGIN: Shape = {"user_id": str, "device_id": str, "access_token": str}
WHOAMI: Shape = {"user_id": str}
SYNC: Shape = {"next_batch": str}
MESSAGES: Shape = {"chunk": list, "start": str}
JOINED_MEMBERS: Shape = {"joined": dict}
JOINED_ROOMS: Shape = {"joined_rooms": list}
TIMELINE: Shape = {"events": list}
EVENT: Shape = {"event_id": str, "sender": str, "type": str, "origin_server_ts": int, "content": dict}
STATE: Shape = {**EVENT, "state_key": str}
INVITE: Shape = {"type": str, "content": dict}
TO_DEVICE: Shape = {"type": str, "sender": str, "content": dict}
DEVICE: Shape = {"algorithms": list, "device_id": str, "keys": dict}

# Of the content of each state event that nio gives a class of its own.
CONTENTS: Mapping[str, Shape] = {
    "m.room.create": {},
    "m.room.member": {"membership": str},
    "m.room.join_rules": {"join_rule": str},
    "m.room.history_visibility": {"history_visibility": str},
    "m.room.guest_access": {"guest_access": str},
    "m.room.name": {"name": str},
    "m.room.topic": {"topic": str},
    "m.room.power_levels": {},
}


def fits(value: Any, shape: Shape) -> None:
    assert isinstance(value, dict)
    for member, kind in shape.items():
        assert type(value.get(member)) is kind, (member, value)


def fits_event(event: Any) -> None:
    fits(event, STATE if "state_key" in event else EVENT)
    assert event["sender"].startswith("@")
    assert ":" in event["sender"]
    assert event["origin_server_ts"] >= 0
    # Present, it would make nio look for the redaction in it.
    assert "redacted_because" not in event["unsigned"]
    if event["type"] in CONTENTS:
        fits(event["content"], CONTENTS[event["type"]])
    if event["type"] == "m.room.message":
        fits(event["content"], {"msgtype": str, "body": str})


@pytest.fixture
async def bridged(server: Server, bob: Client) -> str:
    """A room as the demonstration makes it: imported history, a group, a user added by commit, messages."""
    use_real_time(server)
    bot = MlsDevice(server.bridge(BOT, "BRIDGE"))
    room_id = await bot.client.create_room(
        room_version="dev.linearized.1", creation_content=ENCRYPTED_ROOM, name="Clubhouse", topic="Tea"
    )
    old = {
        "sender": "@carol:matrix.example",
        "type": "m.room.message",
        "content": {"msgtype": "m.text", "body": "before"},
        "origin_server_ts": START_MS,
        "source_event_id": "$1",
    }
    (await bot.client.call("POST", f"{room(room_id, MLS)}/import", {"events": [old]})).ok()
    await bot.create_group(room_id)
    await MlsDevice(bob).upload(1)
    await bot.update(room_id, bot.adding(bob.user_id, *await bot.key_material(room_id, bob.user_id)))
    bot.joined().merge_pending_commit()
    for number in range(25):
        (await bot.say(room_id, f"message {number}", f"t{number}")).ok()
    return room_id


async def test_a_session_from_login_to_logout(server: Server) -> None:
    user = UserRow(
        user_id="@dora:a.example",
        password_hash=hash_password("x", salt=bytes(SALT_BYTES)),
        created_ts=START_MS,
    )
    await server.store.put_user(user)
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": "@dora:a.example"},
        "password": "x",
        "initial_device_display_name": "nio",
    }
    session = (await server.call("POST", f"{V3}/login", body)).ok()
    fits(session, LOGIN)
    client = Client(server, session["user_id"], session["access_token"], session["device_id"])
    fits((await client.call("GET", "/account/whoami")).ok(), WHOAMI)
    assert (await client.call("POST", "/logout")).ok() == {}
    refused = (await client.call("GET", "/account/whoami")).json
    fits(refused, {"errcode": str, "error": str})


async def test_every_part_of_a_sync(server: Server, alice: Client, bob: Client, bridged: str) -> None:
    invited = await alice.create_room(name="Other", invite=[bob.user_id])
    first = await bob.sync(full_state="true")
    fits(first, SYNC)
    joined = first["rooms"]["join"][bridged]
    fits(joined["timeline"], TIMELINE)
    assert type(joined["timeline"]["limited"]) is bool
    assert type(joined["timeline"]["prev_batch"]) is str
    for event in (*joined["state"]["events"], *joined["timeline"]["events"]):
        fits_event(event)
    fits(joined["summary"], {"m.heroes": list, "m.joined_member_count": int, "m.invited_member_count": int})
    for event in first["rooms"]["invite"][invited]["invite_state"]["events"]:
        fits(event, INVITE)
    assert first["to_device"]["events"]
    for event in first["to_device"]["events"]:
        fits(event, TO_DEVICE)
        assert event["content"]  # nio drops a to-device event without content
    (await bob.call("POST", f"{room(invited)}/leave")).ok()
    left = (await bob.sync(first["next_batch"]))["rooms"]["leave"][invited]
    # Of left rooms nio requires both parts with their lists, or it raises.
    fits(left["timeline"], TIMELINE)
    fits(left["state"], TIMELINE)


async def test_walking_back_from_the_first_sync_reaches_the_create_event(bob: Client, bridged: str) -> None:
    start = (await bob.sync())["rooms"]["join"][bridged]["timeline"]["prev_batch"]
    events: list[Any] = []
    while start is not None:
        query = {"from": start, "limit": 10, "dir": "b"}
        page = (await bob.call("GET", f"{room(bridged)}/messages", query=query)).ok()
        fits(page, MESSAGES)
        events += page["chunk"]
        start = page.get("end")
    for event in events:
        fits_event(event)
        assert event["room_id"] == bridged
    assert events[-1]["type"] == "m.room.create"
    assert "m.room.message" in {event["type"] for event in events}


async def test_members_rooms_state_and_devices(bob: Client, bridged: str) -> None:
    members = (await bob.call("GET", f"{room(bridged)}/joined_members")).ok()
    fits(members, JOINED_MEMBERS)
    assert set(members["joined"]) == {BOT, bob.user_id}
    fits((await bob.call("GET", "/joined_rooms")).ok(), JOINED_ROOMS)
    for event in (await bob.call("GET", f"{room(bridged)}/state")).ok():
        fits(event, STATE)
    devices = (await bob.call("POST", "/keys/query", {"device_keys": {bob.user_id: []}})).ok()
    fits(devices["device_keys"][bob.user_id]["DEVICE"], DEVICE)
    profile = (await bob.call("GET", f"/profile/{part(bob.user_id)}")).ok()
    assert "errcode" not in profile


async def test_state_is_set_where_the_rules_allow_it(server: Server, bob: Client, bridged: str) -> None:
    path = f"{room(bridged)}/state/m.room.name"
    fits((await server.bridge().call("PUT", path, {"name": "New"})).ok(), {"event_id": str})
    (await bob.call("PUT", path, {"name": "Newer"})).refused(403, "M_FORBIDDEN")
    message = f"{room(bridged)}/send/m.room.message/t1"
    refused = await bob.call("PUT", message, {"msgtype": "m.text", "body": "in the clear"})
    refused.refused(403, "M_FORBIDDEN")
