"""What sync tells of rooms: first, and then what is new."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.clients import sync as sync_module
from linearized.server.clients import window as window_module
from tests.server.clients.rows import append, entry, member, visibility
from tests.server.clients.support import Client, Server, room
from tests.server.clients.sync_support import ROOM, fill, seqs, types


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


async def test_history_that_is_closed_stays_closed_in_sync(server: Server, bob: Client) -> None:
    entries = [
        visibility(ROOM, 1, "joined"),
        entry(ROOM, 2),
        member(ROOM, 3, bob.user_id, "join"),
        entry(ROOM, 4),
    ]
    await append(server.store, ROOM, *entries)
    assert seqs((await bob.sync())["rooms"]["join"][ROOM]) == [3, 4]


async def test_full_state_tells_all_state_again_and_no_entry_twice(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 3)
    since = (await alice.sync())["next_batch"]
    quiet = (await alice.sync(since, full_state="true"))["rooms"]["join"][ROOM]
    assert (seqs(quiet), len(quiet["state"]["events"])) == ([], 2)
    await append(server.store, ROOM, entry(ROOM, 4))
    busy = (await alice.sync(since, full_state="true"))["rooms"]["join"][ROOM]
    assert (seqs(busy), len(busy["state"]["events"])) == ([4], 2)


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


async def test_rooms_share_what_an_answer_may_hold(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(server, alice.user_id, 9)
    size = len(server.store.entries(ROOM, after=8, limit=1)[0].pdu)
    monkeypatch.setattr(sync_module, "MAX_TIMELINE_BYTES", 6 * size)
    monkeypatch.setattr(sync_module, "MIN_ROOM_BYTES", 0)
    assert len(seqs((await alice.sync())["rooms"]["join"][ROOM])) == 6
    for name in "st":
        other = f"!{name}:a.example"
        people = member(other, 1, alice.user_id, "join")
        await append(server.store, other, people, *(entry(other, seq) for seq in range(2, 10)))
    joined = (await alice.sync())["rooms"]["join"]
    assert [len(seqs(section)) for section in joined.values()] == [2, 2, 2]
