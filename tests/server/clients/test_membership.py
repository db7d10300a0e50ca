"""Joining, leaving, inviting, kicking, banning."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.clients.membership import MAX_VIA
from linearized.server.rooms import Rooms
from tests.server.clients.support import KNOCKABLE, Client, Server, part, room


async def membership(client: Client, room_id: str, user_id: str) -> str:
    path = f"{room(room_id)}/state/m.room.member/{part(user_id)}"
    found: str = (await client.call("GET", path)).ok()["membership"]
    return found


@pytest.mark.parametrize("path", ["/join/{}", "/rooms/{}/join"])
async def test_an_invited_user_joins_and_joining_again_changes_nothing(
    server: Server, alice: Client, bob: Client, path: str
) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    assert (await bob.call("POST", path.format(part(room_id)), {})).ok() == {"room_id": room_id}
    row = server.store.room(room_id)
    assert (await bob.call("POST", path.format(part(room_id)), {})).ok() == {"room_id": room_id}
    assert server.store.room(room_id) == row
    assert await membership(alice, room_id, bob.user_id) == "join"


async def test_nobody_joins_a_private_room_uninvited(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room()
    (await bob.call("POST", f"/join/{part(room_id)}", {})).refused(403, "M_FORBIDDEN")


async def test_a_public_room_is_open(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(preset="public_chat")
    (await bob.call("POST", f"/join/{part(room_id)}", {"reason": "tea"})).ok()
    event = (await bob.call("GET", f"{room(room_id)}/state/m.room.member/{part(bob.user_id)}")).ok()
    assert event == {"membership": "join", "reason": "tea"}


async def test_a_knock_waits_for_an_invitation_and_knocking_again_changes_nothing(
    server: Server, alice: Client, bob: Client
) -> None:
    room_id = await alice.create_room(initial_state=[KNOCKABLE])
    knock = await bob.call("POST", f"/knock/{part(room_id)}", {"reason": "tea"})
    assert knock.ok() == {"room_id": room_id}
    row = server.store.room(room_id)
    (await bob.call("POST", f"/knock/{part(room_id)}", {"reason": "please"})).ok()
    assert server.store.room(room_id) == row
    event = (await alice.call("GET", f"{room(room_id)}/state/m.room.member/{part(bob.user_id)}")).ok()
    assert event == {"membership": "knock", "reason": "tea"}
    (await bob.call("POST", f"/join/{part(room_id)}", {})).refused(403, "M_FORBIDDEN")
    (await alice.call("POST", f"{room(room_id)}/invite", {"user_id": bob.user_id})).ok()
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()


async def test_nobody_knocks_where_it_is_not_allowed(server: Server, alice: Client, bob: Client) -> None:
    room_id = await alice.create_room()
    row = server.store.room(room_id)
    (await bob.call("POST", f"/knock/{part(room_id)}", {})).refused(403, "M_FORBIDDEN")
    (await alice.call("POST", f"/knock/{part(room_id)}", {})).refused(403, "M_FORBIDDEN")
    (await bob.call("POST", f"/knock/{part('#tea:a.example')}", {})).refused(404, "M_NOT_FOUND")
    (await bob.call("POST", f"/knock/{part(room_id)}", {"reason": 5})).refused(400, "M_BAD_JSON")
    (await bob.call("POST", f"/knock/{part('!tea:c.example')}", {})).refused(502, "M_UNKNOWN")
    carol = server.bridge("@carol:matrix.example")
    (await carol.call("POST", f"/knock/{part('!tea:c.example')}", {})).refused(404, "M_NOT_FOUND")
    assert server.store.room(room_id) == row


async def test_an_alias_leads_nowhere(bob: Client) -> None:
    (await bob.call("POST", f"/join/{part('#tea:a.example')}", {})).refused(404, "M_NOT_FOUND")


async def test_an_unknown_room_is_joined_through_the_servers_named_and_its_own(
    bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def join_elsewhere(self: Rooms, room_id: str, *, user_id: str, via: list[str]) -> None:
        asked.append((room_id, user_id, via))

    monkeypatch.setattr(Rooms, "join_elsewhere", join_elsewhere)
    answer = await bob.call("POST", f"/join/{part('!tea:c.example')}", {}, query={"server_name": "b.example"})
    assert answer.ok() == {"room_id": "!tea:c.example"}
    assert asked == [("!tea:c.example", bob.user_id, ["b.example", "c.example"])]


async def test_only_so_many_servers_are_asked_to_let_one_in(
    bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def join_elsewhere(self: Rooms, room_id: str, *, user_id: str, via: list[str]) -> None:
        asked.extend(via)

    monkeypatch.setattr(Rooms, "join_elsewhere", join_elsewhere)
    servers = [f"s{number}.example" for number in range(MAX_VIA + 5)]
    path = f"/_matrix/client/v3/join/{part('!tea:c.example')}"
    answer = await bob.server.call("POST", path, {}, token=bob.token, query={"via": servers})
    answer.ok()
    assert asked == servers[:MAX_VIA]


async def test_an_unreachable_server_is_a_gateway_failure(bob: Client) -> None:
    (await bob.call("POST", f"/join/{part('!tea:c.example')}", {})).refused(502, "M_UNKNOWN")


async def test_a_room_of_ours_that_never_was_cannot_be_joined(bob: Client) -> None:
    (await bob.call("POST", f"/join/{part('!tea:a.example')}", {})).refused(403, "M_FORBIDDEN")


async def test_a_bridge_does_not_join_its_users_to_rooms_elsewhere(server: Server) -> None:
    carol = server.bridge("@carol:matrix.example")
    (await carol.call("POST", f"/join/{part('!tea:c.example')}", {})).refused(404, "M_NOT_FOUND")


async def test_leaving_twice_is_leaving_once(server: Server, alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    (await bob.call("POST", f"{room(room_id)}/leave", {"reason": "no"})).ok()
    row = server.store.room(room_id)
    (await bob.call("POST", f"{room(room_id)}/leave", {})).ok()
    assert server.store.room(room_id) == row
    assert await membership(alice, room_id, bob.user_id) == "leave"


async def test_one_cannot_leave_what_one_was_never_in(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room()
    (await bob.call("POST", f"{room(room_id)}/leave", {})).refused(403, "M_FORBIDDEN")


@pytest.mark.parametrize("action", ["invite", "kick", "ban", "unban"])
async def test_only_members_act_on_members(alice: Client, bob: Client, action: str) -> None:
    room_id = await alice.create_room()
    body = {"user_id": "@carol:a.example"}
    (await bob.call("POST", f"{room(room_id)}/{action}", body)).refused(403, "M_FORBIDDEN")


@pytest.mark.parametrize(
    ("body", "errcode"),
    [({}, "M_BAD_JSON"), ({"user_id": 1}, "M_BAD_JSON"), ({"user_id": "carol"}, "M_INVALID_PARAM")],
)
async def test_the_target_has_to_be_a_user(alice: Client, body: Any, errcode: str) -> None:
    room_id = await alice.create_room()
    for action in ("invite", "kick"):
        (await alice.call("POST", f"{room(room_id)}/{action}", body)).refused(400, errcode)
    long = {"user_id": "@carol:a.example", "reason": "x" * 1025}
    (await alice.call("POST", f"{room(room_id)}/kick", long)).refused(400, "M_INVALID_PARAM")


async def test_a_kick_a_ban_and_an_unban_each_do_just_that(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(preset="public_chat")
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    target = {"user_id": bob.user_id, "reason": "spam"}
    (await alice.call("POST", f"{room(room_id)}/unban", target)).refused(403, "M_FORBIDDEN")
    (await alice.call("POST", f"{room(room_id)}/kick", target)).ok()
    (await alice.call("POST", f"{room(room_id)}/kick", target)).refused(403, "M_FORBIDDEN")
    (await alice.call("POST", f"{room(room_id)}/ban", target)).ok()
    (await alice.call("POST", f"{room(room_id)}/kick", target)).refused(403, "M_FORBIDDEN")
    (await bob.call("POST", f"/join/{part(room_id)}", {})).refused(403, "M_FORBIDDEN")
    (await alice.call("POST", f"{room(room_id)}/unban", target)).ok()
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()


async def test_a_member_without_the_power_cannot_kick(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(preset="public_chat")
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    (await bob.call("POST", f"{room(room_id)}/kick", {"user_id": alice.user_id})).refused(403, "M_FORBIDDEN")


async def test_inviting_through_a_server_that_does_not_answer_fails(alice: Client) -> None:
    room_id = await alice.create_room()
    body = {"user_id": "@carol:c.example"}
    (await alice.call("POST", f"{room(room_id)}/invite", body)).refused(502, "M_UNKNOWN")


async def test_a_bridged_users_membership_says_what_vouches_for_it(server: Server) -> None:
    bot = server.bridge()
    room_id = await bot.create_room(room_version="dev.linearized.1")
    carol = server.bridge("@carol:matrix.example")
    (await bot.call("POST", f"{room(room_id)}/invite", {"user_id": carol.user_id})).ok()
    query = {"dev.linearized.source_event_id": "$original"}
    (await carol.call("POST", f"/join/{part(room_id)}", {}, query)).ok()
    (await carol.call("POST", f"{room(room_id)}/invite", {"user_id": "@dora:matrix.example"})).refused(
        403, "M_FORBIDDEN"
    )
    state = (await carol.call("GET", f"{room(room_id)}/state")).ok()
    joined = next(event for event in state if event.get("state_key") == carol.user_id)
    assert joined["provenance"] == {
        "protocol": "matrix",
        "provider": "matrix.example",
        "event_id": "$original",
    }
    (await carol.call("POST", f"{room(room_id)}/leave", {})).ok()
    event = (await bot.call("GET", f"{room(room_id)}/messages", query={"dir": "b", "limit": 1})).ok()[
        "chunk"
    ][0]
    assert event["provenance"]["event_id"].startswith("~")


@pytest.mark.parametrize("source", ["", "$" + "x" * 255])
async def test_a_source_event_id_has_its_limits(server: Server, source: str) -> None:
    bot = server.bridge()
    room_id = await bot.create_room(room_version="dev.linearized.1", preset="public_chat")
    carol = server.bridge("@carol:matrix.example")
    query = {"dev.linearized.source_event_id": source}
    (await carol.call("POST", f"/join/{part(room_id)}", {}, query)).refused(400, "M_INVALID_PARAM")
