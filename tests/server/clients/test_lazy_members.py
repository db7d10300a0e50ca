"""Lazy-loading room members: memberships come with the events of those who send them."""

from __future__ import annotations

from typing import Any

import orjson

from linearized.store.base import EntryRow
from tests.server.clients.rows import append, entry, member
from tests.server.clients.support import Client, Server, part, room
from tests.server.clients.sync_support import ROOM, seqs

PEOPLE = [f"@{name}:a.example" for name in ("ann", "ben", "cat", "dan", "eve", "fay", "gus")]


def asked(**timeline: Any) -> str:
    wanted = {"room": {"state": {"lazy_load_members": True}, "timeline": {"limit": 2, **timeline}}}
    return orjson.dumps(wanted).decode()


def members(events: list[Any]) -> set[str]:
    return {event["state_key"] for event in events if event["type"] == "m.room.member"}


def said(seq: int, who: str, event_type: str = "m.room.message") -> EntryRow:
    return entry(ROOM, seq, event_type, sender=who)


async def crowd(server: Server, alice: Client) -> int:
    """A named room of alice and all the people; its last entry."""
    everybody = [alice.user_id, *PEOPLE]
    joins = [member(ROOM, seq, user_id, "join") for seq, user_id in enumerate(everybody, 1)]
    last = len(joins) + 1
    name = entry(ROOM, last, "m.room.name", state_key="", content={"name": "Crowd"})
    await append(server.store, ROOM, *joins, name)
    return last


async def test_a_first_sync_has_only_members_who_spoke_the_heroes_and_oneself(
    server: Server, alice: Client
) -> None:
    last = await crowd(server, alice)
    await append(server.store, ROOM, said(last + 1, PEOPLE[5]), said(last + 2, PEOPLE[6]))
    joined = (await alice.sync(filter=asked()))["rooms"]["join"][ROOM]
    assert joined["summary"]["m.heroes"] == PEOPLE[:5]
    assert members(joined["state"]["events"]) == {alice.user_id, *PEOPLE[:5], PEOPLE[5], PEOPLE[6]}
    assert "m.room.name" in {event["type"] for event in joined["state"]["events"]}
    await append(server.store, ROOM, member(ROOM, last + 3, PEOPLE[4], "leave"))
    fewer = (await alice.sync(filter=asked(limit=1)))["rooms"]["join"][ROOM]
    assert members(fewer["state"]["events"]) == {alice.user_id, *PEOPLE[:4], PEOPLE[5]}


async def test_who_speaks_later_comes_with_their_membership_though_nothing_else_changed(
    server: Server, alice: Client
) -> None:
    last = await crowd(server, alice)
    since = (await alice.sync(filter=asked()))["next_batch"]
    await append(server.store, ROOM, said(last + 1, PEOPLE[6]))
    joined = (await alice.sync(since, filter=asked()))["rooms"]["join"][ROOM]
    assert (seqs(joined), members(joined["state"]["events"])) == ([last + 1], {PEOPLE[6]})
    eager = (await alice.sync(since))["rooms"]["join"][ROOM]
    assert eager["state"]["events"] == []


async def test_of_a_gap_the_members_that_changed_come_and_those_who_spoke(
    server: Server, alice: Client
) -> None:
    last = await crowd(server, alice)
    since = (await alice.sync(filter=asked()))["next_batch"]
    gone = member(ROOM, last + 1, PEOPLE[0], "leave")
    await append(server.store, ROOM, gone, *(said(last + n, PEOPLE[6]) for n in range(2, 6)))
    joined = (await alice.sync(since, filter=asked()))["rooms"]["join"][ROOM]
    assert (joined["timeline"]["limited"], seqs(joined)) == (True, [last + 4, last + 5])
    assert joined["summary"]["m.heroes"] == PEOPLE[1:6]
    assert members(joined["state"]["events"]) == {PEOPLE[0], PEOPLE[6], *PEOPLE[1:6]}


async def test_who_joins_in_the_timeline_has_no_membership_before_it(server: Server, alice: Client) -> None:
    last = await crowd(server, alice)
    since = (await alice.sync(filter=asked()))["next_batch"]
    late = entry(
        ROOM, last + 1, "m.room.member", state_key="@new:a.example", sender="@new:a.example",
        content={"membership": "join"},
    )  # fmt: skip
    await append(server.store, ROOM, late, said(last + 2, "@new:a.example"))
    joined = (await alice.sync(since, filter=asked()))["rooms"]["join"][ROOM]
    assert seqs(joined) == [last + 1, last + 2]
    assert members(joined["state"]["events"]) == set(joined["summary"]["m.heroes"]) == set(PEOPLE[:5])


async def test_only_those_count_whose_events_the_filter_lets_through(server: Server, alice: Client) -> None:
    last = await crowd(server, alice)
    since = (await alice.sync(filter=asked()))["next_batch"]
    await append(server.store, ROOM, said(last + 1, PEOPLE[6]), said(last + 2, PEOPLE[5], "m.reaction"))
    wanted = asked(types=["m.room.message"])
    joined = (await alice.sync(since, filter=wanted))["rooms"]["join"][ROOM]
    assert members(joined["state"]["events"]) == {PEOPLE[6]}


async def test_a_page_of_history_comes_with_its_senders(server: Server, alice: Client) -> None:
    last = await crowd(server, alice)
    later = entry(
        ROOM, last + 2, "m.room.member", state_key=PEOPLE[6], sender=PEOPLE[6],
        content={"membership": "join", "displayname": "Gus"},
    )  # fmt: skip
    said_before, said_after = said(last + 1, PEOPLE[6]), said(last + 3, PEOPLE[5])
    await append(server.store, ROOM, said_before, later, said_after)

    async def page(query: dict[str, Any]) -> list[Any]:
        answer = (await alice.call("GET", f"{room(ROOM)}/messages", query={"dir": "b", **query})).ok()
        state: list[Any] = answer["state"]
        return state

    lazy = orjson.dumps({"lazy_load_members": True}).decode()
    newest = await page({"filter": lazy, "limit": 1})
    assert members(newest) == {PEOPLE[5]}
    older = await page({"filter": lazy, "limit": 1, "from": f"t{last + 1}"})
    assert [event["content"] for event in older] == [{"membership": "join"}]  # the name came later
    both = await page({"filter": lazy, "limit": 3})
    assert members(both) == {PEOPLE[5], PEOPLE[6]}
    assert await page({"limit": 3}) == []


async def test_what_is_around_an_event_comes_with_its_senders(server: Server, alice: Client) -> None:
    last = await crowd(server, alice)
    around = [said(last + n, PEOPLE[n]) for n in range(1, 4)]
    await append(server.store, ROOM, *around)
    path = f"{room(ROOM)}/context/{part(around[1].event_id)}"
    lazy = orjson.dumps({"lazy_load_members": True, "types": ["m.room.message"]}).decode()
    answer = (await alice.call("GET", path, query={"limit": 2, "filter": lazy})).ok()
    assert members(answer["state"]) == {PEOPLE[1], PEOPLE[2], PEOPLE[3]}
    assert "m.room.name" in {event["type"] for event in answer["state"]}
    eager = (await alice.call("GET", path, query={"limit": 2})).ok()
    assert members(eager["state"]) == {alice.user_id, *PEOPLE}


async def test_of_a_room_one_has_left_the_senders_come_too(server: Server, alice: Client) -> None:
    last = await crowd(server, alice)
    since = (await alice.sync(filter=asked()))["next_batch"]
    end = last + 5
    spoken = [said(seq, PEOPLE[6]) for seq in range(last + 1, end)]
    await append(server.store, ROOM, *spoken, member(ROOM, end, alice.user_id, "leave"))
    left = (await alice.sync(since, filter=asked()))["rooms"]["leave"][ROOM]
    assert (seqs(left), members(left["state"]["events"])) == ([end - 1, end], {alice.user_id, PEOPLE[6]})
