"""Search in messages: what is found, where it goes on, and that nobody finds what they may not read."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.clients import searching
from linearized.store.base import EntryRow, Role
from tests.server.clients.rows import append, entry, member, visibility
from tests.server.clients.support import Client, Server, part, room

ROOM, OTHER, FOLLOWED = "!a:a.example", "!b:a.example", "!c:a.example"
BOB = "@bob:a.example"


def said(room_id: str, seq: int, body: str) -> EntryRow:
    return entry(room_id, seq, content={"msgtype": "m.text", "body": body}, sender=BOB)


async def ask(client: Client, term: str, *, batch: str = "", **criteria: Any) -> Any:
    body = {"search_categories": {"room_events": {"search_term": term, **criteria}}}
    answer = await client.call("POST", "/search", body, {"next_batch": batch} if batch else None)
    return answer.ok()["search_categories"]["room_events"]


def places(found: Any) -> list[str]:
    return [result["result"]["event_id"] for result in found["results"]]


@pytest.fixture
async def filled(server: Server, alice: Client) -> None:
    """Two rooms with Alice and Bob; a third that Bob alone is in."""
    for room_id in (ROOM, OTHER):
        name = entry(room_id, 3, "m.room.name", state_key="", content={"name": "Tea house"})
        joined = [member(room_id, seq, who, "join") for seq, who in ((1, alice.user_id), (2, BOB))]
        texts = ["Green TEA, please", "coffee", "tea and more tea", '"Stra\u00dfe"']
        lines = [said(room_id, seq, text) for seq, text in enumerate(texts, 4)]
        await append(server.store, room_id, *joined, name, *lines)
    hidden = "!bobs:a.example"
    await append(server.store, hidden, member(hidden, 1, BOB, "join"), said(hidden, 2, "secret tea"))


@pytest.mark.parametrize(
    ("term", "criteria", "seqs"),
    [
        ("tea", {}, [6, 4, 3]),
        ("TEA green", {}, [4]),
        ("house tea", {"keys": ["content.name"]}, [3]),
        ("tea", {"keys": ["content.body"], "order_by": "recent"}, [6, 4]),
        ('"strasse"', {}, [7]),
        ("tea", {"filter": {"senders": [BOB], "not_types": ["m.room.name"]}}, [6, 4]),
        ("tea coffee", {}, []),
        ("secret", {}, []),
        ("m.text", {}, []),
        ("   ", {}, []),
        ("tea", {"keys": ["content.topic"]}, []),
    ],
)
async def test_what_holds_all_the_words_is_found(
    filled: None, alice: Client, term: str, criteria: dict[str, Any], seqs: list[int]
) -> None:
    wanted = {**criteria, "filter": {**criteria.get("filter", {}), "rooms": [ROOM]}}
    found = await ask(alice, term, **wanted)
    assert places(found) == [f"${seq}.{ROOM}" for seq in seqs]
    assert found["count"] == len(seqs)
    assert "next_batch" not in found


async def test_a_search_goes_on_where_it_stopped(
    filled: None, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = sorted(places(await ask(alice, "tea")))
    assert everything == sorted(f"${seq}.{room_id}" for room_id in (ROOM, OTHER) for seq in (6, 4, 3))
    for name, value in (("MAX_SCANNED", 2), ("PAGE", 2), ("MAX_ROOMS", 1)):
        monkeypatch.setattr(searching, name, value)
        found: list[str] = []
        batch, answers = "", 0
        while answers == 0 or batch:
            answer = await ask(alice, "tea", batch=batch, filter={"limit": 2})
            found += places(answer)
            batch, answers = answer.get("next_batch", ""), answers + 1
        assert (sorted(found), answers > 1) == (everything, True)


async def test_results_come_with_what_is_around_them_groups_and_state(filled: None, alice: Client) -> None:
    around = {"before_limit": 1, "after_limit": 2, "include_profile": True}
    groups = {"group_by": [{"key": "room_id"}, {"key": "sender"}]}
    found = await ask(
        alice, "coffee", filter={"rooms": [ROOM]}, event_context=around, groupings=groups, include_state=True
    )
    (result,) = found["results"]
    context = result["context"]
    seen = [[event["event_id"] for event in context[name]] for name in ("events_before", "events_after")]
    assert seen == [[f"$4.{ROOM}"], [f"$6.{ROOM}", f"$7.{ROOM}"]]
    assert (context["start"], context["end"], context["profile_info"]) == ("t3", "t7", {BOB: {}})
    group = {"order": 0, "results": [f"$5.{ROOM}"]}
    assert found["groups"] == {"room_id": {ROOM: group}, "sender": {BOB: group}}
    assert {event["type"] for event in found["state"][ROOM]} == {"m.room.member", "m.room.name"}
    assert found["highlights"] == ["coffee"]
    (plain,) = (await ask(alice, "coffee", filter={"rooms": [ROOM]}, event_context={}))["results"]
    assert len(plain["context"]["events_before"]) == 4
    assert "profile_info" not in plain["context"]


async def test_only_what_one_may_read_is_found(server: Server, alice: Client) -> None:
    await append(
        server.store,
        ROOM,
        visibility(ROOM, 1, "joined"),
        said(ROOM, 2, "tea before"),
        member(ROOM, 3, alice.user_id, "join"),
        said(ROOM, 4, "tea during"),
        member(ROOM, 5, alice.user_id, "leave"),
        said(ROOM, 6, "tea after"),
    )
    here = {alice.user_id: "join"}
    await append(server.store, FOLLOWED, said(FOLLOWED, 1, "tea"), role=Role.FOLLOWER, memberships=here)
    assert places(await ask(alice, "tea")) == [f"$4.{ROOM}"]
    (await alice.call("POST", f"{room(ROOM)}/forget")).ok()
    assert places(await ask(alice, "tea")) == []


async def test_what_was_redacted_is_not_found(alice: Client) -> None:
    room_id = await alice.create_room()
    event_id = (await alice.send(room_id, "tea", "t1")).ok()["event_id"]
    assert places(await ask(alice, "tea")) == [event_id]
    (await alice.call("PUT", f"{room(room_id)}/redact/{part(event_id)}/t2", {})).ok()
    assert places(await ask(alice, "tea")) == []


CRITERIA = {"search_term": "tea"}


@pytest.mark.parametrize(
    ("criteria", "errcode"),
    [
        ({}, "M_BAD_JSON"),
        ({"search_term": 1}, "M_BAD_JSON"),
        ({"search_term": "x" * 256}, "M_INVALID_PARAM"),
        ({"search_term": "a b c d e f g h i j k"}, "M_INVALID_PARAM"),
        ({**CRITERIA, "keys": ["content.formatted_body"]}, "M_INVALID_PARAM"),
        ({**CRITERIA, "order_by": "age"}, "M_INVALID_PARAM"),
        ({**CRITERIA, "filter": {"limit": "1"}}, "M_BAD_JSON"),
        ({**CRITERIA, "filter": {"rooms": "all"}}, "M_BAD_JSON"),
        ({**CRITERIA, "event_context": {"before_limit": -1}}, "M_BAD_JSON"),
        ({**CRITERIA, "groupings": {"group_by": [{"key": "age"}]}}, "M_INVALID_PARAM"),
        ({**CRITERIA, "groupings": {"group_by": [{}]}}, "M_BAD_JSON"),
    ],
)
async def test_a_bad_search_is_refused(alice: Client, criteria: dict[str, Any], errcode: str) -> None:
    body = {"search_categories": {"room_events": criteria}}
    (await alice.call("POST", "/search", body)).refused(400, errcode)


@pytest.mark.parametrize("batch", ["x", "1", "1_room", "-1_!r:a.example", "01_!r:a.example"])
async def test_a_bad_token_is_refused(alice: Client, batch: str) -> None:
    body = {"search_categories": {"room_events": CRITERIA}}
    (await alice.call("POST", "/search", body, {"next_batch": batch})).refused(400, "M_INVALID_PARAM")
