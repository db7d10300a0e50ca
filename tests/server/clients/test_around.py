"""What stands around an event, and what was said at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.server.clients.rows import START_MS, append, entry, member, visibility
from tests.server.clients.support import Client, Server, part, room

ROOM = "!r:a.example"
NEAREST = f"/_matrix/client/v1/rooms/{part(ROOM)}/timestamp_to_event"


@pytest.fixture
async def thirty(server: Server, alice: Client) -> None:
    """Thirty entries, a millisecond apart; alice joined with the first, and the name is the fifth."""
    entries = [entry(ROOM, seq) for seq in range(2, 31)]
    entries[3] = entry(ROOM, 5, "m.room.name", state_key="", content={"name": "x"})
    await append(server.store, ROOM, member(ROOM, 1, alice.user_id, "join"), *entries)


def seqs(events: list[Any]) -> list[int]:
    return [event["unsigned"]["dev.linearized.seq"] for event in events]


async def around(client: Client, seq: int, **query: Any) -> Any:
    path = f"{room(ROOM)}/context/{part(f'${seq}.{ROOM}')}"
    return await client.call("GET", path, query=query)


async def nearest(client: Client, **query: Any) -> Any:
    return await client.call("GET", NEAREST, query=query)


@pytest.mark.parametrize(
    ("seq", "limit", "sides"),
    [
        (15, 4, ([14, 13], [16, 17])),
        (15, 5, ([14, 13], [16, 17, 18])),
        (15, 0, ([], [])),
        (15, 1, ([], [16])),
        (1, 4, ([], [2, 3])),
        (30, 4, ([29, 28], [])),
        (15, 1_000, (list(range(14, 0, -1)), list(range(16, 31)))),
    ],
)
async def test_the_limit_is_shared_by_both_sides(
    alice: Client, thirty: None, seq: int, limit: int, sides: tuple[list[int], list[int]]
) -> None:
    answer = (await around(alice, seq, limit=limit)).ok()
    assert seqs([answer["event"]]) == [seq]
    assert (seqs(answer["events_before"]), seqs(answer["events_after"])) == sides


async def test_from_both_ends_one_can_page_on(alice: Client, thirty: None) -> None:
    answer = (await around(alice, 15, limit=4)).ok()
    back = await alice.call(
        "GET", f"{room(ROOM)}/messages", query={"dir": "b", "from": answer["start"], "limit": 2}
    )
    on = await alice.call(
        "GET", f"{room(ROOM)}/messages", query={"dir": "f", "from": answer["end"], "limit": 2}
    )
    assert (seqs(back.ok()["chunk"]), seqs(on.ok()["chunk"])) == ([12, 11], [18, 19])


async def test_the_state_is_that_of_the_last_event(alice: Client, thirty: None) -> None:
    for seq, kinds in ((2, ["m.room.member"]), (4, ["m.room.member", "m.room.name"])):
        answer = (await around(alice, seq, limit=2)).ok()
        assert sorted(event["type"] for event in answer["state"]) == kinds


async def test_a_filter_leaves_out_what_is_around_and_not_the_event(alice: Client, thirty: None) -> None:
    answer = (await around(alice, 4, limit=2, filter='{"not_types":["m.room.name","m.room.message"]}')).ok()
    assert (seqs([answer["event"]]), answer["events_before"], answer["events_after"]) == ([4], [], [])


@pytest.mark.parametrize(
    ("timestamp", "direction", "seq"),
    [(0, "f", 1), (15, "f", 15), (15, "b", 15), (10**9, "b", 30), (1, "b", 1)],
)
async def test_a_time_leads_to_an_event(
    alice: Client, thirty: None, timestamp: int, direction: str, seq: int
) -> None:
    answer = (await nearest(alice, ts=START_MS + timestamp, dir=direction)).ok()
    assert answer == {"event_id": f"${seq}.{ROOM}", "origin_server_ts": START_MS + seq}


@pytest.mark.parametrize(("timestamp", "direction"), [(31, "f"), (0, "b")])
async def test_there_may_be_no_event_of_that_time(
    alice: Client, thirty: None, timestamp: int, direction: str
) -> None:
    (await nearest(alice, ts=START_MS + timestamp, dir=direction)).refused(404, "M_NOT_FOUND")


async def test_of_one_millisecond_the_first_or_the_last_event_is_found(server: Server, alice: Client) -> None:
    same = [replace(entry(ROOM, seq), origin_server_ts=START_MS + 4) for seq in range(2, 6)]
    await append(server.store, ROOM, member(ROOM, 1, alice.user_id, "join"), *same, entry(ROOM, 6))
    for direction, seq in (("f", 2), ("b", 5)):
        answer = (await nearest(alice, ts=START_MS + 4, dir=direction)).ok()
        assert answer["event_id"] == f"${seq}.{ROOM}"


async def test_a_part_of_a_commit_is_no_event_of_that_time(server: Server, alice: Client) -> None:
    part_of = entry(ROOM, 2, "dev.linearized.mls.commit_part", content={"part": ""})
    await append(server.store, ROOM, member(ROOM, 1, alice.user_id, "join"), part_of, entry(ROOM, 3))
    for direction, seq in (("f", 3), ("b", 1)):
        answer = (await nearest(alice, ts=START_MS + 2, dir=direction)).ok()
        assert answer["event_id"] == f"${seq}.{ROOM}"


async def test_only_what_may_be_read_is_found(server: Server, alice: Client) -> None:
    bob = await server.user("bob")
    await append(
        server.store,
        ROOM,
        member(ROOM, 1, alice.user_id, "join"),
        visibility(ROOM, 2, "joined"),
        *(entry(ROOM, seq) for seq in range(3, 10)),
        member(ROOM, 10, bob.user_id, "join"),
        entry(ROOM, 11),
        member(ROOM, 12, bob.user_id, "leave"),
        entry(ROOM, 13),
    )
    (await around(bob, 5)).refused(404, "M_NOT_FOUND")
    (await around(bob, 13)).refused(404, "M_NOT_FOUND")
    answer = (await around(bob, 11, limit=10)).ok()
    # What was said before the visibility changed is for all who come.
    assert (seqs(answer["events_before"]), seqs(answer["events_after"])) == ([10, 2, 1], [12])
    assert (await nearest(bob, ts=START_MS + 3, dir="f")).ok()["event_id"] == f"$10.{ROOM}"
    assert (await nearest(bob, ts=START_MS + 13, dir="b")).ok()["event_id"] == f"$12.{ROOM}"


async def test_rooms_cannot_be_probed(server: Server, alice: Client, thirty: None) -> None:
    eve = await server.user("eve")
    for path in (room(ROOM), room("!nowhere:a.example")):
        (await eve.call("GET", f"{path}/context/{part('$1.' + ROOM)}")).refused(403, "M_FORBIDDEN")
    (await nearest(eve, ts=0, dir="f")).refused(403, "M_FORBIDDEN")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"dir": "f"}, "M_MISSING_PARAM"),
        ({"ts": 1}, "M_INVALID_PARAM"),
        ({"ts": 1, "dir": "x"}, "M_INVALID_PARAM"),
        ({"ts": "now", "dir": "f"}, "M_INVALID_PARAM"),
    ],
)
async def test_what_is_no_question_is_refused(
    alice: Client, thirty: None, query: dict[str, Any], code: str
) -> None:
    (await nearest(alice, **query)).refused(400, code)


async def test_an_unknown_event_and_a_bad_limit_are_refused(alice: Client, thirty: None) -> None:
    (await around(alice, 99)).refused(404, "M_NOT_FOUND")
    (await around(alice, 5, limit=-1)).refused(400, "M_INVALID_PARAM")
