"""Creating rooms."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.clients.support import ENCRYPTED_ROOM, Client, Server, room


async def state_of(client: Client, room_id: str) -> dict[tuple[str, str], Any]:
    events = (await client.call("GET", f"{room(room_id)}/state")).ok()
    return {(event["type"], event["state_key"]): event["content"] for event in events}


async def test_a_room_without_wishes_is_private_and_of_our_version(server: Server, alice: Client) -> None:
    answer = (await alice.call("POST", "/createRoom", {})).ok()
    state = await state_of(alice, answer["room_id"])
    assert state["m.room.create", ""]["room_version"] == "dev.linearized.1"
    assert state["m.room.join_rules", ""] == {"join_rule": "invite"}
    assert state["m.room.history_visibility", ""] == {"history_visibility": "shared"}
    assert state["m.room.power_levels", ""]["users"] == {alice.user_id: 100}
    assert state["m.room.member", alice.user_id] == {"membership": "join"}


@pytest.mark.parametrize(
    ("body", "join_rule", "guest_access"),
    [
        ({"preset": "public_chat"}, "public", "forbidden"),
        ({"visibility": "public"}, "public", "forbidden"),
        ({"visibility": "private"}, "invite", "can_join"),
        ({"preset": "private_chat", "visibility": "public"}, "invite", "can_join"),
    ],
)
async def test_a_preset_sets_the_rules(alice: Client, body: Any, join_rule: str, guest_access: str) -> None:
    state = await state_of(alice, await alice.create_room(**body))
    assert state["m.room.join_rules", ""] == {"join_rule": join_rule}
    assert state["m.room.guest_access", ""] == {"guest_access": guest_access}


async def test_trusted_invitees_have_the_creators_power(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(preset="trusted_private_chat", invite=[bob.user_id, bob.user_id])
    state = await state_of(alice, room_id)
    assert state["m.room.power_levels", ""]["users"] == {alice.user_id: 100, bob.user_id: 100}
    assert state["m.room.member", bob.user_id] == {"membership": "invite"}


async def test_wishes_override_the_preset(alice: Client) -> None:
    room_id = await alice.create_room(
        preset="private_chat",
        name="Tea",
        topic="Leaves",
        creation_content={"m.federate": False, "room_version": "9"},
        power_level_content_override={"invite": 0},
        initial_state=[
            {"type": "m.room.join_rules", "content": {"join_rule": "public"}},
            {"type": "m.room.name", "state_key": "", "content": {"name": "Coffee"}},
            {"type": "dev.test", "state_key": "k", "content": {"n": 1}},
        ],
    )
    state = await state_of(alice, room_id)
    assert state["m.room.join_rules", ""] == {"join_rule": "public"}
    assert state["m.room.name", ""] == {"name": "Tea"}
    assert state["m.room.topic", ""] == {"topic": "Leaves"}
    assert state["dev.test", "k"] == {"n": 1}
    assert state["m.room.power_levels", ""]["invite"] == 0
    assert state["m.room.create", ""] == {"m.federate": False, "room_version": "I.1"}


async def test_a_bridges_bot_creates_encrypted_rooms(server: Server) -> None:
    bot = server.bridge()
    room_id = await bot.create_room(room_version="dev.linearized.1", creation_content=ENCRYPTED_ROOM)
    assert (await state_of(bot, room_id))["m.room.create", ""]["encryption"] == ENCRYPTED_ROOM["encryption"]
    (await bot.send(room_id, "plaintext", "t")).refused(403, "M_FORBIDDEN")


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({"room_version": "11"}, "M_UNSUPPORTED_ROOM_VERSION"),
        ({"room_version": 1}, "M_BAD_JSON"),
        ({"preset": "party"}, "M_INVALID_PARAM"),
        ({"invite": "bob"}, "M_BAD_JSON"),
        ({"invite": ["bob"]}, "M_INVALID_PARAM"),
        ({"invite": ["@x:a.example"] * 101}, "M_INVALID_PARAM"),
        (
            {"initial_state": [{"type": "m.room.member", "state_key": "@x:a.example", "content": {}}]},
            "M_BAD_JSON",
        ),
        ({"initial_state": [{"type": "m.room.create", "content": {}}]}, "M_BAD_JSON"),
        ({"initial_state": [{"type": "x", "content": []}]}, "M_BAD_JSON"),
        ({"initial_state": [{"content": {}}]}, "M_BAD_JSON"),
        ({"creation_content": []}, "M_BAD_JSON"),
        ({"name": 1}, "M_BAD_JSON"),
        ({"is_direct": "yes"}, "M_BAD_JSON"),
        ({"dev.linearized.policy": "anarchy", "creation_content": ENCRYPTED_ROOM}, "M_INVALID_PARAM"),
        ({"dev.linearized.policy": "open"}, "M_INVALID_PARAM"),
    ],
)
async def test_a_room_that_cannot_be_is_not_created(
    server: Server, alice: Client, body: Any, errcode: str
) -> None:
    (await alice.call("POST", "/createRoom", body)).refused(400, errcode)
    assert server.store.rooms() == []


@pytest.mark.parametrize("policy", ["moderated", {"organizations": ["north", "south"]}])
async def test_a_policy_is_chosen_in_the_create_event(alice: Client, policy: object) -> None:
    room_id = await alice.create_room(
        room_version="dev.linearized.1",
        creation_content=ENCRYPTED_ROOM,
        **{"dev.linearized.policy": policy},
    )
    state = await state_of(alice, room_id)
    assert state["m.room.create", ""]["dev.linearized.policy"] == policy


async def test_a_wish_the_rules_forbid_creates_no_room(server: Server, alice: Client) -> None:
    levels = {"power_level_content_override": {"users": {alice.user_id: 100}, "ban": "many"}}
    answer = await alice.call("POST", "/createRoom", {"room_version": "I.1", **levels})
    assert answer.status in {400, 403}
    assert server.store.rooms() == []


async def test_whom_a_direct_room_is_for_is_told_so(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(is_direct=True, preset="trusted_private_chat", invite=[bob.user_id])
    plain = await alice.create_room(invite=[bob.user_id])
    state, other = await state_of(alice, room_id), await state_of(alice, plain)
    assert state["m.room.member", bob.user_id] == {"membership": "invite", "is_direct": True}
    assert other["m.room.member", bob.user_id] == {"membership": "invite"}
    invited = (await bob.sync())["rooms"]["invite"][room_id]["invite_state"]["events"]
    assert invited[-1]["content"]["is_direct"] is True


async def test_a_bridged_user_creates_no_room(server: Server) -> None:
    carol = server.bridge("@carol:matrix.example")
    (await carol.call("POST", "/createRoom", {})).refused(403, "M_FORBIDDEN")


async def test_an_invitation_that_fails_does_not_hide_the_room(alice: Client, bob: Client) -> None:
    body = {"room_version": "I.1", "invite": ["@carol:c.example", bob.user_id]}
    answer = (await alice.call("POST", "/createRoom", body)).ok()
    assert answer["dev.linearized.failed_invites"] == {"@carol:c.example": "c.example does not answer"}
    assert (await state_of(alice, answer["room_id"]))["m.room.member", bob.user_id] == {
        "membership": "invite"
    }
