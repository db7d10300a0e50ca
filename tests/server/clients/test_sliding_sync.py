"""Simplified sliding sync: windows of rooms, what changed in them, and positions that skip nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio

from linearized.server.clients import sliding_sync as module
from linearized.server.clients.sliding_connections import Connections, Told
from linearized.server.clients.sliding_requests import (
    MAX_LIST_NAME,
    MAX_LISTS,
    MAX_RANGES,
    MAX_SPACES,
    MAX_SUBSCRIPTIONS,
    MAX_TAGS,
)
from linearized.server.clients.sliding_wishes import MAX_REQUIRED
from tests.server.clients.rows import append, entry, member
from tests.server.clients.sliding_support import ALL, ROOM, ask, fill, seqs, slide, state
from tests.server.clients.support import KNOCKABLE, Client, Server, part, room


async def test_a_room_is_told_whole_and_then_by_what_changed(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id)
    first = await slide(alice)
    assert first["lists"] == {"all": {"count": 1}}
    value = first["rooms"][ROOM]
    assert (value["initial"], value["membership"], value["joined_count"]) == (True, "join", 1)
    assert (seqs(value), value["limited"], value["num_live"]) == ([1, 2, 3, 4, 5], False, 0)
    assert (await slide(alice, first["pos"]))["rooms"] == {}
    await append(server.store, ROOM, entry(ROOM, 6), entry(ROOM, 7))
    second = await slide(alice, first["pos"])
    value = second["rooms"][ROOM]
    assert (seqs(value), value["num_live"], value["limited"]) == ([6, 7], 2, False)
    assert "initial" not in value
    assert (await slide(alice, second["pos"]))["rooms"] == {}


async def test_a_gap_is_limited_and_can_be_filled(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id)
    wish: Any = {"lists": {"all": {**ALL, "timeline_limit": 2}}}
    first = await slide(alice, **wish)
    assert (seqs(first["rooms"][ROOM]), first["rooms"][ROOM]["prev_batch"]) == ([4, 5], "t3")
    await append(server.store, ROOM, *(entry(ROOM, seq) for seq in range(6, 10)))
    value = (await slide(alice, first["pos"], **wish))["rooms"][ROOM]
    assert (seqs(value), value["limited"], value["prev_batch"]) == ([8, 9], True, "t7")


async def test_a_list_is_a_window_of_the_most_recently_active_rooms(server: Server, alice: Client) -> None:
    rooms = [f"!{name}:a.example" for name in "abc"]
    for number, room_id in enumerate(rooms):
        await fill(server, alice.user_id, room_id=room_id, last=3 + number)
    wish: Any = {"lists": {"top": {**ALL, "ranges": [[0, 0]]}}}
    first = await slide(alice, **wish)
    assert (first["lists"], list(first["rooms"])) == ({"top": {"count": 3}}, [rooms[2]])
    await append(server.store, rooms[0], *(entry(rooms[0], seq) for seq in range(4, 9)))
    second = await slide(alice, first["pos"], **wish)
    assert list(second["rooms"]) == [rooms[0]]
    assert second["rooms"][rooms[0]]["initial"]
    third = await slide(alice, second["pos"], lists={"top": {**ALL, "ranges": [[0, 0], [1, 5]]}})
    assert list(third["rooms"]) == [rooms[1]]  # the third was told of before
    await append(server.store, rooms[2], entry(rooms[2], 6))
    fourth = await slide(alice, third["pos"], lists={"top": ALL})
    assert (list(fourth["rooms"]), seqs(fourth["rooms"][rooms[2]])) == ([rooms[2]], [6])


async def test_an_answer_that_was_lost_is_given_again(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id)
    first = await slide(alice)
    await append(server.store, ROOM, entry(ROOM, 6))
    lost = await slide(alice, first["pos"])
    await append(server.store, ROOM, entry(ROOM, 7))
    assert seqs((await slide(alice, first["pos"]))["rooms"][ROOM]) == [6, 7]
    (await ask(alice, {}, lost["pos"])).refused(400, "M_UNKNOWN_POS")


async def test_a_position_is_known_until_a_later_one_comes_back(server: Server, alice: Client) -> None:
    first = await slide(alice)
    second = await slide(alice, first["pos"])
    await slide(alice, second["pos"])
    for pos in (first["pos"], "x"):
        (await ask(alice, {}, pos)).refused(400, "M_UNKNOWN_POS")


async def test_connections_and_devices_know_nothing_of_each_other(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id)
    first = await slide(alice, lists={"all": ALL}, conn_id="one")
    phone = await server.user("alice", "PHONE")
    for client, name in ((alice, "two"), (phone, "one")):
        (await ask(client, {"conn_id": name}, first["pos"])).refused(400, "M_UNKNOWN_POS")
    assert ROOM in (await slide(alice, lists={"all": ALL}, conn_id="two"))["rooms"]
    assert (await slide(alice, first["pos"], lists={"all": ALL}, conn_id="one"))["rooms"] == {}


@pytest.mark.parametrize(("name", "scopes"), [("MAX_CONNECTIONS", "abc"), ("MAX_OF_DEVICE", "aaa")])
def test_only_so_many_connections_are_remembered(
    name: str, scopes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"linearized.server.clients.sliding_connections.{name}", 2)
    connections, keys = Connections(), list(zip(scopes, "xyz", strict=True))
    for scope, connection in keys:
        connections.keep(scope, connection, "p", Told())
        connections.keep(scope, connection, "q", Told())
    assert [connections.told(*key, "q") is not None for key in keys] == [False, True, True]


def test_a_connection_that_is_used_outlasts_those_that_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linearized.server.clients.sliding_connections.MAX_CONNECTIONS", 2)
    connections = Connections()
    for scope in "abac":
        connections.keep(scope, "main", "p", Told())
    assert [connections.told(scope, "main", "p") is not None for scope in "abc"] == [True, False, True]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_lost_nothing_is_skipped(server: Server, alice: Client, seed: int) -> None:
    """The client asks on, loses answers, and in the end has every entry once."""
    chance = random.Random(seed)  # noqa: S311 - picks steps, not secrets
    heads = {f"!{name}:a.example": 1 for name in "abc"}
    for room_id in heads:
        await append(server.store, room_id, member(room_id, 1, alice.user_id, "join"))
    had: dict[str, list[int]] = {room_id: [] for room_id in heads}
    pos: str | None = None
    for step in range(60):
        room_id = chance.choice(list(heads))
        heads[room_id] += 1
        await append(server.store, room_id, entry(room_id, heads[room_id]))
        if step == 59 or chance.random() < 0.5:
            answer = await slide(alice, pos, lists={"top": {**ALL, "ranges": [[0, chance.randint(0, 2)]]}})
            if chance.random() < 0.7:
                pos = answer["pos"]
                for told, value in answer["rooms"].items():
                    had[told] += seqs(value)
    for told, value in (await slide(alice, pos))["rooms"].items():
        had[told] += seqs(value)
    assert had == {room_id: list(range(1, head + 1)) for room_id, head in heads.items()}


async def test_more_rooms_than_fit_come_with_the_next_answer(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ROOMS", 1)
    for name in "ab":
        await fill(server, alice.user_id, room_id=f"!{name}:a.example")
    first = await slide(alice)
    second = await slide(alice, first["pos"])
    assert {*first["rooms"], *second["rooms"]} == {"!a:a.example", "!b:a.example"}
    assert (await slide(alice, second["pos"]))["rooms"] == {}


async def test_state_is_told_as_it_is_wanted(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(name="Tea", topic="Hot", invite=[bob.user_id])
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    await bob.send(room_id, "hello", "t")
    wishes: list[tuple[list[list[str]], set[tuple[str, str]]]] = [
        ([["m.room.name", ""], ["m.room.none", ""]], {("m.room.name", "")}),
        ([["m.room.member", "$ME"]], {("m.room.member", alice.user_id)}),
        ([["m.room.member", "$LAZY"]], {("m.room.member", bob.user_id)}),
        ([["m.room.member", "*"]], {("m.room.member", alice.user_id), ("m.room.member", bob.user_id)}),
        ([["*", alice.user_id], ["m.room.topic", ""]], {
            ("m.room.topic", ""), ("m.room.member", alice.user_id)}),
    ]  # fmt: skip
    for required, told in wishes:
        wish: Any = {"required_state": required, "timeline_limit": 1}
        answer = await slide(alice, room_subscriptions={room_id: wish})
        assert state(answer["rooms"][room_id]) == told
        assert answer["rooms"][room_id]["name"] == "Tea"
    everything: Any = {"required_state": [["*", "*"]], "timeline_limit": 0}
    value = (await slide(alice, room_subscriptions={room_id: everything}))["rooms"][room_id]
    assert {kind for kind, _ in state(value)} > {"m.room.create", "m.room.power_levels"}
    assert value["timeline"] == []


async def test_changed_state_is_told_and_a_wider_wish_tells_all_of_it(alice: Client) -> None:
    room_id = await alice.create_room(name="Tea", topic="Hot")
    wish: Any = {"required_state": [["m.room.name", ""]], "timeline_limit": 1}
    first = await slide(alice, room_subscriptions={room_id: wish})
    (await alice.call("PUT", f"{room(room_id)}/state/m.room.name", {"name": "Mate"})).ok()
    second = await slide(alice, first["pos"], room_subscriptions={room_id: wish})
    value = second["rooms"][room_id]
    assert (value["name"], state(value)) == ("Mate", {("m.room.name", "")})
    wider = {"required_state": [["m.room.topic", ""]], "timeline_limit": 3}
    value = (await slide(alice, second["pos"], room_subscriptions={room_id: wider}))["rooms"][room_id]
    assert (state(value), len(seqs(value)), value["num_live"]) == ({("m.room.topic", "")}, 3, 0)
    assert value["unstable_expanded_timeline"]


async def test_who_speaks_later_comes_with_their_membership_however_old_it_is(
    alice: Client, bob: Client
) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    await alice.send(room_id, "hello", "t")
    wish: Any = {"required_state": [["m.room.member", "$LAZY"]], "timeline_limit": 1}
    first = await slide(alice, room_subscriptions={room_id: wish})
    assert state(first["rooms"][room_id]) == {("m.room.member", alice.user_id)}
    await bob.send(room_id, "hello", "t")
    second = await slide(alice, first["pos"], room_subscriptions={room_id: wish})
    assert state(second["rooms"][room_id]) == {("m.room.member", bob.user_id)}


async def test_invitations_and_knocks_show_the_rooms_face(alice: Client, bob: Client) -> None:
    first = await slide(bob)
    invited = await alice.create_room(name="Tea", invite=[bob.user_id])
    knocked = await alice.create_room(initial_state=[KNOCKABLE])
    (await bob.call("POST", f"/knock/{part(knocked)}", {})).ok()
    second = await slide(bob, first["pos"])
    for room_id, membership in ((invited, "invite"), (knocked, "knock")):
        value = second["rooms"][room_id]
        assert value["membership"] == value["invite_state"][-1]["content"]["membership"] == membership
        assert "timeline" not in value
    await alice.send(invited, "hello", "t")
    assert (await slide(bob, second["pos"]))["rooms"] == {}
    (await bob.call("POST", f"/join/{part(invited)}", {})).ok()
    value = (await slide(bob, second["pos"]))["rooms"][invited]
    assert (value["initial"], value["membership"]) == (True, "join")


async def test_leaving_is_told_once_and_nothing_after_it(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    first = await slide(bob)
    (await bob.call("POST", f"{room(room_id)}/leave")).ok()
    await alice.send(room_id, "secret", "t")
    second = await slide(bob, first["pos"], lists={"none": {**ALL, "ranges": []}})
    value = second["rooms"][room_id]
    assert value["membership"] == "leave"
    assert [event["type"] for event in value["timeline"]] == ["m.room.member"]
    third = await slide(bob, second["pos"])
    assert (third["rooms"], third["lists"]) == ({}, {"all": {"count": 0}})
    assert room_id not in (await slide(bob))["rooms"]


async def test_a_declined_invitation_is_told(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    first = await slide(bob)
    (await bob.call("POST", f"{room(room_id)}/leave")).ok()
    value = (await slide(bob, first["pos"]))["rooms"][room_id]
    assert value["membership"] == "leave"
    assert "timeline" not in value


async def test_lists_are_filtered(alice: Client, bob: Client) -> None:
    space = await alice.create_room(creation_content={"type": "m.space"})
    direct = await alice.create_room(initial_state=[
        {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}])  # fmt: skip
    invited = await bob.create_room(invite=[alice.user_id])
    path = f"/user/{part(alice.user_id)}/account_data/m.direct"
    (await alice.call("PUT", path, {bob.user_id: [direct, 7], "x": 1})).ok()
    tags = f"/user/{part(alice.user_id)}/rooms/{part(direct)}/tags"
    (await alice.call("PUT", f"{tags}/m.favourite", {})).ok()
    theirs = await bob.create_room(creation_content={"type": "m.space"})
    for client, parent in ((alice, space), (bob, theirs)):
        child = f"{room(parent)}/state/m.space.child/{part(direct)}"
        (await client.call("PUT", child, {"via": ["a.example"]})).ok()
    filters: list[tuple[Any, set[str]]] = [
        ({"is_dm": True}, {direct}),
        ({"is_dm": False}, {space, invited}),
        ({"is_invite": True}, {invited}),
        ({"is_encrypted": True}, {direct}),
        ({"room_types": ["m.space"]}, {space}),
        ({"room_types": [None], "is_invite": False}, {direct}),
        ({"not_room_types": ["m.space"]}, {direct, invited}),
        ({"tags": ["m.favourite", "u.x"]}, {direct}),
        ({"not_tags": ["m.favourite"]}, {space, invited}),
        ({"tags": []}, set()),
        ({"spaces": [space]}, {direct}),
        ({"spaces": [theirs, "!none:x"]}, set()),
    ]
    for wanted, rooms in filters:
        answer = await slide(alice, lists={"some": {**ALL, "filters": wanted}})
        assert (set(answer["rooms"]), answer["lists"]["some"]["count"]) == (rooms, len(rooms))
        assert {each for each in answer["rooms"] if answer["rooms"][each].get("is_dm")} == rooms & {direct}


async def test_a_room_without_a_name_is_known_by_who_is_in_it(alice: Client, bob: Client) -> None:
    (await bob.call("PUT", f"/profile/{part(bob.user_id)}/displayname", {"displayname": "Bob"})).ok()
    room_id = await alice.create_room(invite=[bob.user_id])
    first = await slide(alice)
    assert first["rooms"][room_id]["heroes"] == [{"user_id": bob.user_id}]
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    value = (await slide(alice, first["pos"]))["rooms"][room_id]
    assert value["heroes"] == [{"user_id": bob.user_id, "displayname": "Bob"}]
    assert (value["joined_count"], value["invited_count"]) == (2, 0)


async def test_rooms_that_are_none_of_ones_own_are_as_rooms_that_are_not_there(
    server: Server, alice: Client
) -> None:
    room_id = await alice.create_room(preset="public_chat")
    eve = await server.user("eve")
    for other in (room_id, "!no:a.example"):
        answer = await slide(eve, room_subscriptions={other: {"timeline_limit": 1, "required_state": []}})
        assert (answer["rooms"], answer["lists"]) == ({}, {})


async def test_a_wait_ends_with_news_or_with_its_time(
    server: Server, alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    room_id = await alice.create_room()
    pos = (await slide(alice))["pos"]
    began = trio.current_time()
    assert (await slide(alice, pos, wait=10_000))["rooms"] == {}
    assert trio.current_time() - began == 10
    pos = (await slide(alice))["pos"]
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            assert room_id in (await slide(alice, pos, wait=50_000))["rooms"]
            assert trio.current_time() - began == 15

        nursery.start_soon(wait)
        await trio.sleep(5)
        await alice.send(room_id, "hello", "t")


async def test_position_and_time_may_stand_in_the_body_of_a_request_to_the_final_path(
    server: Server, alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    await fill(server, alice.user_id)

    async def final(**body: Any) -> Any:
        return (await alice.call("POST", "/_matrix/client/v4/sync", body)).ok()

    first = await final(lists={"all": {"timeline_limit": 1}})
    assert ROOM in first["rooms"]
    began = trio.current_time()
    assert (await final(pos=first["pos"], timeout=7_000, lists={"all": {"timeline_limit": 1}}))["rooms"] == {}
    assert trio.current_time() - began == 7
    (await alice.call("POST", "/_matrix/client/v4/sync", {"pos": "x"})).refused(400, "M_UNKNOWN_POS")


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({"lists": 1}, "M_BAD_JSON"),
        ({"lists": {str(n): {} for n in range(MAX_LISTS + 1)}}, "M_INVALID_PARAM"),
        ({"room_subscriptions": {str(n): {} for n in range(MAX_SUBSCRIPTIONS + 1)}}, "M_INVALID_PARAM"),
        ({"lists": {"a": {"ranges": [[0, 1]] * (MAX_RANGES + 1)}}}, "M_BAD_JSON"),
        ({"lists": {"a": {"ranges": [[0]]}}}, "M_BAD_JSON"),
        ({"lists": {"a": {"range": [0]}}}, "M_BAD_JSON"),
        ({"lists": {"a" * (MAX_LIST_NAME + 1): {}}}, "M_INVALID_PARAM"),
        ({"pos": 7}, "M_BAD_JSON"),
        ({"timeout": -1}, "M_BAD_JSON"),
        ({"lists": {"a": {"ranges": [[0, -1]]}}}, "M_BAD_JSON"),
        ({"lists": {"a": {"ranges": [[0, True]]}}}, "M_BAD_JSON"),
        ({"lists": {"a": {"ranges": 7}}}, "M_BAD_JSON"),
        ({"lists": {"a": {"required_state": [["x", 7]]}}}, "M_BAD_JSON"),
        ({"lists": {"a": {"required_state": [["x", "y"]] * (MAX_REQUIRED + 1)}}}, "M_BAD_JSON"),
        ({"lists": {"a": {"required_state": [["x"]]}}}, "M_BAD_JSON"),
        ({"lists": {"a": {"timeline_limit": -1}}}, "M_BAD_JSON"),
        ({"lists": {"a": {"filters": {"is_dm": 1}}}}, "M_BAD_JSON"),
        ({"lists": {"a": {"filters": {"room_types": [1]}}}}, "M_BAD_JSON"),
        ({"lists": {"a": {"filters": {"tags": "m.favourite"}}}}, "M_BAD_JSON"),
        ({"lists": {"a": {"filters": {"not_tags": ["x"] * (MAX_TAGS + 1)}}}}, "M_INVALID_PARAM"),
        ({"lists": {"a": {"filters": {"spaces": ["x"] * (MAX_SPACES + 1)}}}}, "M_INVALID_PARAM"),
        ({"extensions": {"typing": {"enabled": 1}}}, "M_BAD_JSON"),
        ({"conn_id": "x" * 65}, "M_INVALID_PARAM"),
    ],
)
async def test_what_is_no_question_is_refused(alice: Client, body: Any, errcode: str) -> None:
    (await ask(alice, body)).refused(400, errcode)


async def test_a_transaction_id_is_given_back_and_a_device_is_needed(server: Server, alice: Client) -> None:
    assert (await slide(alice, txn_id="x"))["txn_id"] == "x"
    (await ask(server.bridge(), {})).refused(400, "M_MISSING_PARAM")
