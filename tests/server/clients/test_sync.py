"""What sync tells: first, then what is new, and who is told what."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import trio

from linearized.server.clients import sync as sync_module
from linearized.server.clients import window as window_module
from linearized.store.base import NewToDevice, Reply, Role
from linearized.store.sqlite import SqliteStore
from tests.server.clients.rows import append, entry, member, visibility
from tests.server.clients.support import KNOCKABLE, Client, Server, part, room

ROOM = "!r:a.example"


def seqs(section: Any) -> list[int]:
    return [event["unsigned"]["dev.linearized.seq"] for event in section["timeline"]["events"]]


def types(events: list[Any]) -> list[str]:
    return [event["type"] for event in events]


async def fill(server: Server, user_id: str, last: int) -> None:
    entries = [entry(ROOM, seq) for seq in range(3, last + 1)]
    name = entry(ROOM, 2, "m.room.name", state_key="", content={"name": "old"})
    await append(server.store, ROOM, member(ROOM, 1, user_id, "join"), name, *entries)


async def test_an_empty_account_has_an_empty_sync(alice: Client) -> None:
    answer = await alice.sync()
    assert answer["rooms"] == {"join": {}, "invite": {}, "knock": {}, "leave": {}}
    assert answer["next_batch"] == "s0_0"
    assert answer["device_one_time_keys_count"] == {"mls": 0}


async def test_a_first_sync_has_the_latest_entries_and_the_state_before_them(
    server: Server, alice: Client
) -> None:
    await fill(server, alice.user_id, 50)
    joined = (await alice.sync())["rooms"]["join"][ROOM]
    assert seqs(joined) == list(range(31, 51))
    assert (joined["timeline"]["limited"], joined["timeline"]["prev_batch"]) == (True, "t30")
    assert types(joined["state"]["events"]) == ["m.room.member", "m.room.name"]
    assert joined["summary"] == {
        "m.heroes": [],
        "m.joined_member_count": 1,
        "m.invited_member_count": 0,
    }


async def test_a_first_sync_of_a_short_room_is_not_limited(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 4)
    joined = (await alice.sync())["rooms"]["join"][ROOM]
    assert (seqs(joined), joined["timeline"]["limited"], joined["state"]["events"]) == (
        [1, 2, 3, 4],
        False,
        [],
    )


async def test_the_next_sync_has_just_what_is_new(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 5)
    since = (await alice.sync())["next_batch"]
    await append(server.store, ROOM, entry(ROOM, 6), entry(ROOM, 7))
    answer = await alice.sync(since)
    joined = answer["rooms"]["join"][ROOM]
    assert (seqs(joined), joined["timeline"]["limited"], joined["state"]["events"]) == ([6, 7], False, [])
    assert "summary" not in joined
    assert (await alice.sync(answer["next_batch"]))["rooms"]["join"] == {}


async def test_a_gap_is_limited_and_brings_the_state_that_changed_in_it(
    server: Server, alice: Client
) -> None:
    await fill(server, alice.user_id, 5)
    since = (await alice.sync())["next_batch"]
    name = entry(ROOM, 6, "m.room.name", state_key="", content={"name": "new"})
    late = entry(ROOM, 40, "m.room.topic", state_key="", content={"topic": "x"})
    await append(server.store, ROOM, name, *(entry(ROOM, seq) for seq in range(7, 40)), late)
    joined = (await alice.sync(since))["rooms"]["join"][ROOM]
    assert seqs(joined) == list(range(21, 41))
    assert (joined["timeline"]["limited"], joined["timeline"]["prev_batch"]) == (True, "t20")
    assert [event["content"] for event in joined["state"]["events"]] == [{"name": "new"}]


async def test_the_gap_of_a_limited_sync_can_be_filled_from_prev_batch(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 5)
    since = (await alice.sync())["next_batch"]
    await append(server.store, ROOM, *(entry(ROOM, seq) for seq in range(6, 40)))
    joined = (await alice.sync(since))["rooms"]["join"][ROOM]
    query = {"dir": "b", "from": joined["timeline"]["prev_batch"], "to": "t5", "limit": 100}
    page = (await alice.call("GET", room(ROOM) + "/messages", query=query)).ok()
    missing = [event["unsigned"]["dev.linearized.seq"] for event in page["chunk"]]
    assert sorted(missing + seqs(joined)) == list(range(6, 40))


async def test_an_invitation_shows_the_rooms_face_and_nothing_else(alice: Client, bob: Client) -> None:
    since = (await bob.sync())["next_batch"]
    room_id = await alice.create_room(name="Tea", invite=[bob.user_id])
    answer = await bob.sync(since)
    events = answer["rooms"]["invite"][room_id]["invite_state"]["events"]
    assert set(types(events)) == {"m.room.create", "m.room.name", "m.room.join_rules", "m.room.member"}
    assert events[-1]["content"] == {"membership": "invite"}
    assert answer["rooms"]["join"] == {}
    assert (await bob.sync(answer["next_batch"]))["rooms"]["invite"] == {}
    assert room_id in (await bob.sync())["rooms"]["invite"]


async def test_a_knock_shows_the_rooms_face_and_nothing_else(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(name="Tea", initial_state=[KNOCKABLE])
    since = (await bob.sync())["next_batch"]
    (await bob.call("POST", f"/knock/{part(room_id)}", {})).ok()
    answer = await bob.sync(since)
    events = answer["rooms"]["knock"][room_id]["knock_state"]["events"]
    assert set(types(events)) == {"m.room.create", "m.room.name", "m.room.join_rules", "m.room.member"}
    assert events[-1]["content"] == {"membership": "knock"}
    assert (answer["rooms"]["join"], answer["rooms"]["invite"]) == ({}, {})
    await alice.send(room_id, "Who is it?", "t")
    assert (await bob.sync(answer["next_batch"]))["rooms"]["knock"] == {}
    assert room_id in (await bob.sync())["rooms"]["knock"]
    (await alice.call("POST", f"{room(room_id)}/invite", {"user_id": bob.user_id})).ok()
    last = (await bob.sync(answer["next_batch"]))["rooms"]
    assert (list(last["knock"]), list(last["invite"])) == ([], [room_id])


async def test_a_join_brings_the_latest_entries_and_all_state(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(name="Tea", invite=[bob.user_id])
    since = (await bob.sync())["next_batch"]
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    answer = await bob.sync(since, filter='{"room":{"timeline":{"limit":2}}}')
    joined = answer["rooms"]["join"][room_id]
    assert types(joined["timeline"]["events"]) == ["m.room.member", "m.room.member"]
    assert joined["timeline"]["limited"]
    assert "m.room.create" in types(joined["state"]["events"])
    assert joined["summary"]["m.joined_member_count"] == 2
    assert joined["summary"]["m.heroes"] == [alice.user_id]


async def test_coming_back_does_not_repeat_what_was_told_before(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 3)
    first = await alice.sync()
    await append(server.store, ROOM, member(ROOM, 4, alice.user_id, "leave"))
    second = await alice.sync(first["next_batch"])
    assert seqs(second["rooms"]["leave"][ROOM]) == [4]
    await append(server.store, ROOM, entry(ROOM, 5), member(ROOM, 6, alice.user_id, "join"))
    joined = (await alice.sync(second["next_batch"]))["rooms"]["join"][ROOM]
    assert (seqs(joined), joined["timeline"]["limited"]) == ([5, 6], True)
    assert "m.room.name" in types(joined["state"]["events"])


async def test_leaving_is_told_once_with_everything_up_to_it(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 3)
    since = (await alice.sync())["next_batch"]
    await append(server.store, ROOM, entry(ROOM, 4), member(ROOM, 5, alice.user_id, "leave"), entry(ROOM, 6))
    answer = await alice.sync(since)
    assert seqs(answer["rooms"]["leave"][ROOM]) == [4, 5]
    assert answer["rooms"]["join"] == {}
    await append(server.store, ROOM, entry(ROOM, 7))
    assert (await alice.sync(answer["next_batch"]))["rooms"] == {
        "join": {},
        "invite": {},
        "knock": {},
        "leave": {},
    }


async def test_a_long_goodbye_is_limited(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 3)
    since = (await alice.sync())["next_batch"]
    name = entry(ROOM, 4, "m.room.name", state_key="", content={"name": "new"})
    middle = [entry(ROOM, seq) for seq in range(5, 40)]
    await append(server.store, ROOM, name, *middle, member(ROOM, 40, alice.user_id, "ban"))
    left = (await alice.sync(since))["rooms"]["leave"][ROOM]
    assert (seqs(left), left["timeline"]["limited"]) == (list(range(21, 41)), True)
    assert types(left["state"]["events"]) == ["m.room.name"]


async def test_a_first_sync_leaves_left_rooms_out_unless_asked(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 30)
    await append(server.store, ROOM, member(ROOM, 31, alice.user_id, "leave"), entry(ROOM, 32))
    assert (await alice.sync())["rooms"]["leave"] == {}
    left = (await alice.sync(filter='{"room":{"include_leave":true}}'))["rooms"]["leave"][ROOM]
    assert seqs(left) == list(range(12, 32))
    assert len(left["state"]["events"]) == 2


async def test_an_invitation_taken_back_is_told_without_the_rooms_events(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    since = (await bob.sync())["next_batch"]
    (await alice.send(room_id, "secret", "t")).ok()
    (await alice.call("POST", f"{room(room_id)}/kick", {"user_id": bob.user_id})).ok()
    left = (await bob.sync(since))["rooms"]["leave"][room_id]
    assert types(left["timeline"]["events"]) == ["m.room.member"]
    assert left["state"]["events"] == []
    include = await bob.sync(filter='{"room":{"include_leave":true}}')
    assert include["rooms"]["leave"] == {}


async def test_history_that_is_closed_stays_closed_in_sync(server: Server, bob: Client) -> None:
    entries = [
        visibility(ROOM, 1, "joined"),
        entry(ROOM, 2),
        member(ROOM, 3, bob.user_id, "join"),
        entry(ROOM, 4),
    ]
    await append(server.store, ROOM, *entries)
    assert seqs((await bob.sync())["rooms"]["join"][ROOM]) == [1, 3, 4]


async def test_full_state_tells_all_state_again_and_no_entry_twice(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 3)
    since = (await alice.sync())["next_batch"]
    quiet = (await alice.sync(since, full_state="true"))["rooms"]["join"][ROOM]
    assert (seqs(quiet), len(quiet["state"]["events"])) == ([], 2)
    await append(server.store, ROOM, entry(ROOM, 4))
    busy = (await alice.sync(since, full_state="true"))["rooms"]["join"][ROOM]
    assert (seqs(busy), len(busy["state"]["events"])) == ([4], 2)


async def test_a_room_of_a_mimi_hub_appears_without_state(server: Server, alice: Client) -> None:
    room_id = "!mimi:hub.example"
    since = (await alice.sync())["next_batch"]
    await append(server.store, room_id, role=Role.FOLLOWER, memberships={alice.user_id: "join"})
    first = await alice.sync(since)
    joined = first["rooms"]["join"][room_id]
    assert (seqs(joined), joined["timeline"]["limited"], joined["state"]["events"]) == ([], True, [])
    await append(server.store, room_id, entry(room_id, 1, sender="@_mimi:hub.example"))
    second = await alice.sync(first["next_batch"])
    assert seqs(second["rooms"]["join"][room_id]) == [1]
    await append(server.store, room_id, entry(room_id, 2, sender="@_mimi:hub.example"))
    third = (await alice.sync(second["next_batch"]))["rooms"]["join"][room_id]
    assert (seqs(third), third["timeline"]["limited"]) == ([2], False)


async def test_another_users_arrival_in_a_mimi_copy_is_no_news(server: Server, alice: Client) -> None:
    room_id = "!mimi:hub.example"
    await append(server.store, room_id, role=Role.FOLLOWER, memberships={alice.user_id: "join"})
    await append(server.store, room_id, entry(room_id, 1), entry(room_id, 2))
    since = (await alice.sync())["next_batch"]
    await append(server.store, room_id, memberships={"@bob:a.example": "join"})
    assert (await alice.sync(since))["rooms"]["join"] == {}


async def test_more_rooms_than_one_answer_holds_follow_in_the_next(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_module.read_window, "__kwdefaults__", {"unchanged": False, "max_rooms": 2})
    for number in range(5):
        await append(server.store, f"!{number}:x", member(f"!{number}:x", 1, alice.user_id, "join"))
    told: list[str] = []
    answer = await alice.sync()
    while answer["rooms"]["join"]:
        assert len(answer["rooms"]["join"]) <= 2
        told += answer["rooms"]["join"]
        answer = await alice.sync(answer["next_batch"])
    assert sorted(told) == [f"!{number}:x" for number in range(5)]


async def test_a_filter_chooses_rooms_and_types(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 4)
    await append(server.store, "!other:x", member("!other:x", 1, alice.user_id, "join"))
    only = {"room": {"rooms": [ROOM], "timeline": {"types": ["m.room.n*"], "limit": 100}}}
    joined = (await alice.sync(filter=orjson.dumps(only).decode()))["rooms"]["join"]
    assert joined.keys() == {ROOM}
    assert types(joined[ROOM]["timeline"]["events"]) == ["m.room.name"]


@pytest.mark.parametrize(
    "query",
    [
        {"since": "x"},
        {"since": "s99_0"},
        {"timeout": "-1"},
        {"timeout": "soon"},
        {"filter": "unknown"},
        {"filter": "{"},
    ],
)
async def test_a_malformed_sync_is_refused(alice: Client, query: Any) -> None:
    (await alice.call("GET", "/sync", query=query)).refused(400, "M_INVALID_PARAM")


async def test_a_filter_of_the_wrong_shape_is_refused(alice: Client) -> None:
    for bad in ('{"room":1}', '{"room":{"timeline":{"limit":"x"}}}', '{"room":{"rooms":"!r"}}'):
        (await alice.call("GET", "/sync", query={"filter": bad})).refused(400, "M_BAD_JSON")
    include = '{"room":{"include_leave":1}}'
    (await alice.call("GET", "/sync", query={"filter": include})).refused(400, "M_BAD_JSON")


async def test_a_timeline_that_would_be_too_large_is_limited_and_can_be_filled(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_module, "MAX_TIMELINE_BYTES", 0)
    monkeypatch.setattr(sync_module, "MIN_ROOM_BYTES", 150)
    await fill(server, alice.user_id, 9)
    joined = (await alice.sync())["rooms"]["join"][ROOM]
    assert (joined["timeline"]["limited"], seqs(joined)[-1], len(seqs(joined)) <= 2) == (True, 9, True)
    start = joined["timeline"]["prev_batch"]
    page = (await alice.call("GET", room(ROOM) + "/messages", query={"dir": "b", "from": start})).ok()
    told = [event["unsigned"]["dev.linearized.seq"] for event in page["chunk"]][::-1] + seqs(joined)
    assert told == list(range(1, 10))


async def test_a_client_may_want_no_timeline_at_all(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 5)
    none = '{"room":{"timeline":{"limit":0}}}'
    first = await alice.sync(filter=none)
    joined = first["rooms"]["join"][ROOM]
    assert (seqs(joined), joined["timeline"]["limited"], joined["timeline"]["prev_batch"]) == ([], True, "t5")
    assert types(joined["state"]["events"]) == ["m.room.member", "m.room.name"]
    await append(server.store, ROOM, entry(ROOM, 6))
    joined = (await alice.sync(first["next_batch"], filter=none))["rooms"]["join"][ROOM]
    assert (seqs(joined), joined["timeline"]["limited"], joined["timeline"]["prev_batch"]) == ([], True, "t6")


async def test_an_invitation_to_a_room_elsewhere_is_as_its_server_described_it(
    server: Server, alice: Client
) -> None:
    room_id = "!tea:c.example"
    stripped = {"type": "m.room.name", "state_key": "", "sender": "@x:c.example", "content": {"name": "Tea"}}
    since = (await alice.sync())["next_batch"]
    value = orjson.dumps([stripped]).decode()
    await server.store.put_reply(Reply(scope="invite state", key=f"{room_id} {alice.user_id}", value=value))
    await append(server.store, room_id, role=Role.PARTICIPANT, memberships={alice.user_id: "invite"})
    answer = await alice.sync(since)
    assert answer["rooms"]["invite"] == {room_id: {"invite_state": {"events": [stripped]}}}
    assert (await alice.sync(answer["next_batch"]))["rooms"]["invite"] == {}
    await append(
        server.store, "!other:c.example", role=Role.PARTICIPANT, memberships={alice.user_id: "invite"}
    )
    bare = (await alice.sync(answer["next_batch"]))["rooms"]["invite"]
    assert bare == {"!other:c.example": {"invite_state": {"events": []}}}


async def test_a_membership_that_changes_behind_the_window_waits_for_the_next(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's row may be newer than the window's end; the section is by the membership at the end."""
    await fill(server, alice.user_id, 3)
    since = (await alice.sync())["next_batch"]
    await append(server.store, ROOM, entry(ROOM, 4))
    middle = server.store.position()
    await append(server.store, ROOM, member(ROOM, 5, alice.user_id, "leave"))
    with monkeypatch.context() as patch:
        patch.setattr(server.store, "position", lambda: middle)
        first = await alice.sync(since)
    assert seqs(first["rooms"]["join"][ROOM]) == [4]
    second = await alice.sync(first["next_batch"])
    assert seqs(second["rooms"]["leave"][ROOM]) == [5]


async def test_a_first_membership_behind_the_window_waits_for_the_next(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(server.store, ROOM, entry(ROOM, 1))
    middle = server.store.position()
    await append(server.store, ROOM, member(ROOM, 2, alice.user_id, "join"))
    with monkeypatch.context() as patch:
        patch.setattr(server.store, "position", lambda: middle)
        first = await alice.sync()
    assert first["rooms"]["join"] == {}
    assert seqs((await alice.sync(first["next_batch"]))["rooms"]["join"][ROOM]) == [1, 2]


# --- waiting ---


async def test_a_sync_without_news_waits_until_its_time_is_up(
    alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    since = (await alice.sync())["next_batch"]
    start = trio.current_time()
    answer = await alice.sync(since, timeout=30_000)
    assert trio.current_time() - start == pytest.approx(30)
    assert answer["rooms"]["join"] == {}


async def test_no_sync_waits_longer_than_the_bound(
    alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    since = (await alice.sync())["next_batch"]
    start = trio.current_time()
    await alice.sync(since, timeout=10**9)
    assert trio.current_time() - start == pytest.approx(sync_module.MAX_WAIT_MS / 1000)


async def test_news_ends_the_wait_at_once(
    server: Server, alice: Client, bob: Client, autojump_clock: trio.testing.MockClock
) -> None:
    room_id = await alice.create_room(preset="public_chat")
    (await bob.call("POST", f"/join/{part(room_id)}", {})).ok()
    since = (await bob.sync())["next_batch"]
    start = trio.current_time()
    answers: list[Any] = []

    async def wait() -> None:
        answers.append(await bob.sync(since, timeout=30_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(5)
        (await alice.send(room_id, "hello", "t1")).ok()
    assert trio.current_time() - start == pytest.approx(5)
    assert types(answers[0]["rooms"]["join"][room_id]["timeline"]["events"]) == ["m.room.message"]


async def test_a_change_that_tells_the_user_nothing_does_not_end_the_wait(
    server: Server, alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    since = (await alice.sync())["next_batch"]
    start = trio.current_time()
    tokens: list[str] = []

    async def wait() -> None:
        tokens.append((await alice.sync(since, timeout=30_000))["next_batch"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(5)
        await append(server.store, ROOM, entry(ROOM, 1))
        server.node.notifier.users_changed([alice.user_id])
    assert trio.current_time() - start == pytest.approx(30)
    assert tokens == [f"s{server.store.position()}_0"]


# --- messages to devices ---


async def put(server: Server, client: Client, *bodies: str) -> None:
    messages = [
        NewToDevice(
            user_id=client.user_id,
            device_id=client.device_id or "",
            type="m.test",
            sender="@x:a.example",
            content=orjson.dumps({"n": body}),
        )
        for body in bodies
    ]
    await server.store.put_to_device(messages)
    server.node.notifier.users_changed([client.user_id])


def bodies(answer: Any) -> list[str]:
    return [event["content"]["n"] for event in answer["to_device"]["events"]]


async def test_a_message_to_a_device_stays_until_its_token_comes_back(server: Server, alice: Client) -> None:
    await put(server, alice, "1", "2")
    first = await alice.sync()
    assert bodies(first) == ["1", "2"]
    assert bodies(await alice.sync()) == ["1", "2"]
    await put(server, alice, "3")
    second = await alice.sync(first["next_batch"])
    assert bodies(second) == ["3"]
    left = server.store.to_device(alice.user_id, "DEVICE", after=0, limit=10)
    assert [orjson.loads(row.content)["n"] for row in left] == ["3"]
    assert bodies(await alice.sync(first["next_batch"])) == ["3"]
    assert bodies(await alice.sync(second["next_batch"])) == []
    assert server.store.to_device(alice.user_id, "DEVICE", after=0, limit=10) == []


async def test_a_token_that_acknowledges_nothing_new_writes_nothing(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(server, alice, "1")
    since = (await alice.sync())["next_batch"]
    await alice.sync(since)
    await put(server, alice, "2")
    monkeypatch.setattr(SqliteStore, "delete_to_device", lambda *_: pytest.fail("wrote"))
    assert bodies(await alice.sync(since)) == ["2"]


async def test_many_messages_come_in_several_answers(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_module, "MAX_TO_DEVICE", 2)
    await put(server, alice, "1", "2", "3", "4", "5")
    told: list[str] = []
    answer = await alice.sync()
    while bodies(answer):
        told += bodies(answer)
        answer = await alice.sync(answer["next_batch"])
    assert told == ["1", "2", "3", "4", "5"]


async def test_a_message_to_a_device_ends_its_wait(
    server: Server, alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    since = (await alice.sync())["next_batch"]
    answers: list[Any] = []

    async def wait() -> None:
        answers.append(await alice.sync(since, timeout=30_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(5)
        await put(server, alice, "1")
    assert bodies(answers[0]) == ["1"]


async def test_messages_are_for_one_device_only(server: Server, alice: Client) -> None:
    tablet = await server.user("alice", "TABLET")
    await put(server, tablet, "1")
    assert bodies(await alice.sync()) == []
    assert bodies(await tablet.sync()) == ["1"]
    assert bodies(await server.bridge().sync()) == []


async def test_a_device_that_logs_out_stops_waiting(
    server: Server, alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    since = (await alice.sync())["next_batch"]
    statuses: list[int] = []

    async def wait() -> None:
        answer = await alice.call("GET", "/sync", query={"since": since, "timeout": 30_000})
        statuses.append(answer.status)

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(5)
        (await alice.call("POST", "/logout", {})).ok()
    assert statuses == [401]
    assert trio.current_time() - start == pytest.approx(5)
