"""Events that belong to another: found, paged, summed up, and never shown to who may not see them."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.clients import bundled as bundled_module
from linearized.server.clients import relations as relations_module
from linearized.store.base import EntryRow
from tests.server.clients.rows import append, entry, member
from tests.server.clients.support import Client, Server, part, room

V1 = "/_matrix/client/v1"
ROOM = "!r:a.example"
BOB, CAROL = "@bob:a.example", "@carol:a.example"


def event_id(seq: int) -> str:
    return f"${seq}.{ROOM}"


def child(
    seq: int, parent: int, kind: str = "m.thread", *, sender: str = BOB, event_type: str = "m.room.message"
) -> EntryRow:
    relation = {"event_id": event_id(parent), "rel_type": kind}
    return entry(ROOM, seq, event_type, sender=sender, content={"m.relates_to": relation})


@pytest.fixture
async def filled(server: Server, alice: Client) -> None:
    """Alice and Bob say 3 and 4. To 3 belong two answers, an edit by Alice, one by Bob, and a reference."""
    await append(
        server.store,
        ROOM,
        member(ROOM, 1, alice.user_id, "join"),
        member(ROOM, 2, BOB, "join"),
        entry(ROOM, 3),
        entry(ROOM, 4, sender=BOB),
        child(5, 3),
        child(6, 3, "m.replace", sender=alice.user_id),
        child(7, 3, "m.replace"),
        child(8, 3, "m.reference"),
        child(9, 3, event_type="m.sticker"),
        child(10, 4),
    )


def seqs(events: list[Any]) -> list[int]:
    return [event["unsigned"]["dev.linearized.seq"] for event in events]


async def related(client: Client, seq: int, rest: str = "", **query: Any) -> Any:
    path = f"{room(ROOM, V1)}/relations/{part(event_id(seq))}{rest}"
    return (await client.call("GET", path, query=query)).ok()


@pytest.mark.parametrize(
    ("rest", "query", "found"),
    [
        ("", {}, [9, 8, 7, 6, 5]),
        ("", {"dir": "f"}, [5, 6, 7, 8, 9]),
        ("/m.thread", {}, [9, 5]),
        ("/m.thread/m.sticker", {}, [9]),
        ("/m.annotation", {}, []),
        ("", {"from": "t7"}, [7, 6, 5]),
        ("", {"from": "t7", "to": "t5"}, [7, 6]),
        ("", {"dir": "f", "from": "t7", "to": "t8"}, [8]),
    ],
)
async def test_what_relates_to_an_event(
    alice: Client, rest: str, query: Any, found: list[int], filled: None
) -> None:
    answer = await related(alice, 3, rest, **query)
    assert (seqs(answer["chunk"]), "next_batch" in answer) == (found, False)


@pytest.mark.parametrize("direction", ["b", "f"])
async def test_pages_hold_everything_once(alice: Client, direction: str, filled: None) -> None:
    found: list[int] = []
    place: dict[str, str] = {}
    while True:
        answer = await related(alice, 3, dir=direction, limit=2, **place)
        found += seqs(answer["chunk"])
        if "next_batch" not in answer:
            break
        place = {"from": answer["next_batch"]}
    assert (
        found == sorted(found, reverse=direction == "b") == sorted([5, 6, 7, 8, 9], reverse=direction == "b")
    )
    assert answer["prev_batch"] == place["from"]


async def test_an_event_comes_with_what_relates_to_it(alice: Client, filled: None) -> None:
    for path in (f"{room(ROOM)}/event/{part(event_id(3))}", f"{room(ROOM)}/context/{part(event_id(3))}"):
        answer = (await alice.call("GET", path)).ok()
        bundled = answer.get("event", answer)["unsigned"]["m.relations"]
        assert seqs([bundled["m.replace"], bundled["m.thread"]["latest_event"]]) == [6, 9]
        assert bundled["m.reference"] == {"chunk": [{"event_id": event_id(8)}]}
        assert (bundled["m.thread"]["count"], bundled["m.thread"]["current_user_participated"]) == (2, True)
    timeline = (await alice.sync())["rooms"]["join"][ROOM]["timeline"]["events"]
    assert [seq for seq, event in enumerate(timeline, 1) if "m.relations" in event["unsigned"]] == [3, 4]
    thread = timeline[3]["unsigned"]["m.relations"]["m.thread"]
    assert thread["current_user_participated"] is False


async def test_an_edit_of_an_edit_is_none(server: Server, alice: Client) -> None:
    mine = [member(ROOM, 1, alice.user_id, "join"), entry(ROOM, 2)]
    edits = [child(3, 2, "m.replace", sender=alice.user_id), child(4, 3, "m.replace", sender=alice.user_id)]
    await append(server.store, ROOM, *mine, *edits)
    timeline = (await alice.sync())["rooms"]["join"][ROOM]["timeline"]["events"]
    assert [seq for seq, event in enumerate(timeline, 1) if "m.relations" in event["unsigned"]] == [2]


async def test_a_long_thread_is_counted_whole(
    alice: Client, monkeypatch: pytest.MonkeyPatch, filled: None
) -> None:
    monkeypatch.setattr(bundled_module, "MAX_LOOKED_AT", 1)
    event = (await alice.call("GET", f"{room(ROOM)}/event/{part(event_id(3))}")).ok()
    assert event["unsigned"]["m.relations"]["m.thread"]["count"] == 2


async def test_threads_are_listed_the_latest_answered_first(alice: Client, filled: None) -> None:
    path = f"{room(ROOM, V1)}/threads"
    assert seqs((await alice.call("GET", path)).ok()["chunk"]) == [4, 3]
    first = (await alice.call("GET", path, query={"limit": 1})).ok()
    second = (await alice.call("GET", path, query={"limit": 1, "from": first["next_batch"]})).ok()
    assert (seqs(first["chunk"]), seqs(second["chunk"]), "next_batch" in second) == ([4], [3], False)
    mine = (await alice.call("GET", path, query={"include": "participated"})).ok()
    assert seqs(mine["chunk"]) == [3]


async def test_who_left_is_told_nothing_of_what_came_after(server: Server, alice: Client) -> None:
    carol = await server.user("carol")
    people = [member(ROOM, 1, alice.user_id, "join"), member(ROOM, 2, CAROL, "join")]
    await append(server.store, ROOM, *people, entry(ROOM, 3), member(ROOM, 4, CAROL, "leave"), child(5, 3))
    assert seqs((await related(alice, 3))["chunk"]) == [5]
    assert (await related(carol, 3))["chunk"] == []
    event = (await carol.call("GET", f"{room(ROOM)}/event/{part(event_id(3))}")).ok()
    assert "m.relations" not in event["unsigned"]
    assert (await carol.call("GET", f"{room(ROOM, V1)}/threads")).ok() == {"chunk": []}


async def test_who_is_outside_cannot_tell_a_room_from_none(
    server: Server, alice: Client, filled: None
) -> None:
    eve = await server.user("eve")
    for rest in (f"relations/{part(event_id(3))}", "threads"):
        refusals = [
            (await eve.call("GET", f"{room(room_id, V1)}/{rest}")).refused(403, "M_FORBIDDEN")
            for room_id in (ROOM, "!no:a.example")
        ]
        assert refusals[0] == refusals[1]
    missing = await alice.call("GET", f"{room(ROOM, V1)}/relations/{part('$no')}")
    missing.refused(404, "M_NOT_FOUND")


@pytest.mark.parametrize(
    ("rest", "query"),
    [
        (f"relations/{part(event_id(3))}", {"dir": "up"}),
        (f"relations/{part(event_id(3))}", {"from": "x"}),
        (f"relations/{part(event_id(3))}", {"limit": "x"}),
        ("threads", {"include": "none"}),
        ("threads", {"from": "x"}),
    ],
)
async def test_a_question_that_is_none_is_refused(alice: Client, rest: str, query: Any, filled: None) -> None:
    (await alice.call("GET", f"{room(ROOM, V1)}/{rest}", query=query)).refused(400, "M_INVALID_PARAM")


async def test_what_relates_indirectly_is_found_three_levels_deep(
    server: Server, filled: None, alice: Client
) -> None:
    chain = [child(11, 5, "m.annotation"), child(12, 11, "m.reference"), child(13, 12), child(14, 3)]
    await append(server.store, ROOM, *chain)
    answer = await related(alice, 3, recurse="true")
    assert (seqs(answer["chunk"]), answer["recursion_depth"]) == ([14, 12, 11, 9, 8], 3)
    more = await related(alice, 3, recurse="true", **{"from": answer["next_batch"]})
    assert seqs(more["chunk"]) == [7, 6, 5]
    assert "next_batch" not in more
    assert seqs((await related(alice, 3, recurse="true", dir="f", limit=2))["chunk"]) == [5, 6]
    assert seqs((await related(alice, 3, "/m.annotation", recurse="true", limit=9))["chunk"]) == [11]
    assert "recursion_depth" not in await related(alice, 3, recurse="false")


async def test_events_that_relate_to_each_other_in_a_circle_are_found_once(
    server: Server, filled: None, alice: Client
) -> None:
    await append(server.store, ROOM, child(11, 12), child(12, 11), child(13, 11))
    assert seqs((await related(alice, 11, recurse="true"))["chunk"]) == [13, 12]


async def test_what_is_redacted_leads_no_further(server: Server, filled: None, alice: Client) -> None:
    redaction = entry(ROOM, 13, "m.room.redaction", sender=BOB, content={"redacts": event_id(11)})
    await append(server.store, ROOM, child(11, 4, "m.annotation"), child(12, 11), redaction)
    assert seqs((await related(alice, 4, recurse="true"))["chunk"]) == [10]


async def test_only_so_many_indirect_relations_are_looked_at(
    filled: None, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relations_module, "MAX_DESCENDANTS", 4)
    assert seqs((await related(alice, 3, recurse="true"))["chunk"]) == [9, 8, 7]
