"""Pages of messages, events, state and members."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.clients import history
from linearized.store.base import Role
from tests.server.clients.rows import append, entry, member, visibility
from tests.server.clients.support import MLS, Client, Server, part, room

ROOM = "!r:a.example"


@pytest.fixture
async def long_room(server: Server, alice: Client) -> str:
    """Thirty entries; alice joined with the first."""
    entries = [entry(ROOM, seq, content={"body": str(seq)}) for seq in range(2, 31)]
    await append(server.store, ROOM, member(ROOM, 1, alice.user_id, "join"), *entries)
    return ROOM


def seqs(chunk: list[Any]) -> list[int]:
    return [event["unsigned"]["dev.linearized.seq"] for event in chunk]


async def page(client: Client, **query: Any) -> Any:
    return (await client.call("GET", room(ROOM) + "/messages", query=query)).ok()


async def test_walking_back_reaches_the_first_entry_and_stops(alice: Client, long_room: str) -> None:
    start: dict[str, Any] = {}
    walked: list[int] = []
    while True:
        answer = await page(alice, dir="b", limit=7, **start)
        walked += seqs(answer["chunk"])
        if "end" not in answer:
            break
        start = {"from": answer["end"]}
    assert walked == list(range(30, 0, -1))


async def test_walking_forward_reaches_the_last_entry_and_stops(alice: Client, long_room: str) -> None:
    start: dict[str, Any] = {}
    walked: list[int] = []
    while True:
        answer = await page(alice, dir="f", limit=7, **start)
        walked += seqs(answer["chunk"])
        if "end" not in answer:
            break
        start = {"from": answer["end"]}
    assert walked == list(range(1, 31))


async def test_both_ends_of_a_page_can_be_given(alice: Client, long_room: str) -> None:
    back = await page(alice, **{"dir": "b", "from": "t20", "to": "t17"})
    assert (seqs(back["chunk"]), "end" in back) == ([20, 19, 18], False)
    forward = await page(alice, **{"dir": "f", "from": "t17", "to": "t20"})
    assert (seqs(forward["chunk"]), "end" in forward) == ([18, 19, 20], False)


async def test_a_page_is_bounded(alice: Client, long_room: str) -> None:
    assert len((await page(alice, dir="b"))["chunk"]) == 10
    assert len((await page(alice, dir="b", limit=0))["chunk"]) == 1
    assert len((await page(alice, dir="b", limit=10**9))["chunk"]) == 30


async def test_history_can_be_read_on_from_a_sync_token(
    server: Server, alice: Client, long_room: str
) -> None:
    token = (await alice.sync())["next_batch"]
    await append(server.store, ROOM, entry(ROOM, 31))
    assert seqs((await page(alice, **{"dir": "b", "from": token, "limit": 2}))["chunk"]) == [30, 29]
    assert seqs((await page(alice, **{"dir": "f", "from": token, "limit": 2}))["chunk"]) == [31]


async def test_a_page_can_be_filtered_and_goes_on_all_the_same(alice: Client, long_room: str) -> None:
    answer = await page(alice, dir="b", limit=5, filter='{"types":["m.room.member"]}')
    assert answer["chunk"] == []
    assert answer["end"] == "t25"


@pytest.mark.parametrize(
    "query",
    [{"dir": "x"}, {"from": "x"}, {"to": "t-1"}, {"limit": "many"}, {"filter": "{"}, {"filter": "[]"}],
)
async def test_a_malformed_page_request_is_refused(alice: Client, long_room: str, query: Any) -> None:
    (await alice.call("GET", room(ROOM) + "/messages", query=query)).refused(400, "M_INVALID_PARAM")


READS = [
    "/messages",
    "/state",
    "/state/m.room.name",
    "/members",
    "/joined_members",
    f"/event/{part('$2.' + ROOM)}",
]


@pytest.mark.parametrize("path", READS)
async def test_nobody_reads_a_room_they_never_joined(bob: Client, long_room: str, path: str) -> None:
    (await bob.call("GET", room(ROOM) + path)).refused(403, "M_FORBIDDEN")
    (await bob.call("GET", room(ROOM, MLS) + "/log")).refused(403, "M_FORBIDDEN")


async def test_an_event_is_found_by_its_id(alice: Client, long_room: str) -> None:
    event = (await alice.call("GET", f"{room(ROOM)}/event/{part('$7.' + ROOM)}")).ok()
    assert (event["content"], event["room_id"], event["sender"]) == ({"body": "7"}, ROOM, alice.user_id)


async def test_an_event_of_another_room_or_of_none_is_not_found(
    server: Server, alice: Client, long_room: str
) -> None:
    await append(server.store, "!other:a.example", entry("!other:a.example", 1))
    for event_id in ("$nothing", "$1.!other:a.example"):
        (await alice.call("GET", f"{room(ROOM)}/event/{part(event_id)}")).refused(404, "M_NOT_FOUND")


async def test_an_event_from_before_one_was_let_in_is_not_found(server: Server, bob: Client) -> None:
    await append(
        server.store,
        ROOM,
        visibility(ROOM, 1, "joined"),
        entry(ROOM, 2),
        member(ROOM, 3, bob.user_id, "join"),
    )
    (await bob.call("GET", f"{room(ROOM)}/event/{part('$2.' + ROOM)}")).refused(404, "M_NOT_FOUND")
    assert seqs((await page(bob, dir="b"))["chunk"]) == [3, 1]


async def test_state_is_told_as_now_or_as_of_the_leave(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(name="Before", invite=[bob.user_id])
    (await bob.call("POST", f"{room(room_id)}/join", {})).ok()
    (await bob.call("POST", f"{room(room_id)}/leave", {})).ok()
    (await alice.call("PUT", f"{room(room_id)}/state/m.room.name", {"name": "After"})).ok()
    name = f"{room(room_id)}/state/m.room.name"
    assert (await alice.call("GET", name)).ok() == {"name": "After"}
    assert (await bob.call("GET", name)).ok() == {"name": "Before"}
    state = {event["type"]: event for event in (await bob.call("GET", f"{room(room_id)}/state")).ok()}
    assert state["m.room.name"]["content"] == {"name": "Before"}
    assert state["m.room.create"]["state_key"] == ""
    (await bob.call("GET", f"{room(room_id)}/joined_members")).refused(403, "M_FORBIDDEN")


async def test_one_state_event_is_its_content_or_the_whole_event(alice: Client) -> None:
    room_id = await alice.create_room(topic="Tea")
    for path in ("/state/m.room.topic", "/state/m.room.topic/"):
        assert (await alice.call("GET", room(room_id) + path)).ok() == {"topic": "Tea"}
    event = (await alice.call("GET", room(room_id) + "/state/m.room.topic", query={"format": "event"})).ok()
    assert event["type"] == "m.room.topic"
    own = f"{room(room_id)}/state/m.room.member/{part(alice.user_id)}"
    assert (await alice.call("GET", own)).ok() == {"membership": "join"}
    (await alice.call("GET", room(room_id) + "/state/m.room.avatar")).refused(404, "M_NOT_FOUND")


async def test_members_are_listed_and_filtered(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id, "@carol:a.example"])
    (await bob.call("POST", f"{room(room_id)}/join", {})).ok()

    async def members(**query: str) -> list[str]:
        chunk = (await alice.call("GET", f"{room(room_id)}/members", query=query)).ok()["chunk"]
        return [event["state_key"] for event in chunk]

    assert sorted(await members()) == [alice.user_id, bob.user_id, "@carol:a.example"]
    assert sorted(await members(membership="join")) == [alice.user_id, bob.user_id]
    assert await members(not_membership="join") == ["@carol:a.example"]
    assert await members(at="t2") == [alice.user_id]
    (await alice.call("GET", f"{room(room_id)}/members", query={"membership": "x"})).refused(
        400, "M_INVALID_PARAM"
    )
    assert (await alice.call("GET", f"{room(room_id)}/joined_members")).ok()["joined"].keys() == {
        alice.user_id,
        bob.user_id,
    }


async def test_joined_members_have_the_names_their_memberships_give(server: Server, alice: Client) -> None:
    room_id = await alice.create_room()
    content = {"membership": "join", "displayname": "Alice", "avatar_url": 7}
    path = f"{room(room_id)}/state/m.room.member/{part(alice.user_id)}"
    (await alice.call("PUT", path, content)).ok()
    joined = (await alice.call("GET", f"{room(room_id)}/joined_members")).ok()["joined"]
    assert joined == {alice.user_id: {"display_name": "Alice"}}


async def test_joined_rooms_are_just_those(alice: Client, bob: Client) -> None:
    joined, left = await alice.create_room(), await alice.create_room()
    invited = await bob.create_room(invite=[alice.user_id])
    (await alice.call("POST", f"{room(left)}/leave", {})).ok()
    assert (await alice.call("GET", "/joined_rooms")).ok() == {"joined_rooms": [joined]}
    assert invited != joined


async def test_a_page_of_huge_entries_is_cut_and_goes_on(
    alice: Client, long_room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_PAGE_BYTES", 150)
    for direction, walk in (("b", list(range(30, 0, -1))), ("f", list(range(1, 31)))):
        start: dict[str, Any] = {}
        walked: list[int] = []
        while True:
            answer = await page(alice, dir=direction, limit=100, **start)
            assert 1 <= len(answer["chunk"]) <= 2
            walked += seqs(answer["chunk"])
            if "end" not in answer:
                break
            start = {"from": answer["end"]}
        assert walked == walk


async def test_a_commit_can_be_looked_up_even_where_history_is_closed(server: Server, bob: Client) -> None:
    """ "a client *always* has access to m.mls.commit events, even when hidden by history visibility"."""
    await append(
        server.store,
        ROOM,
        visibility(ROOM, 1, "joined"),
        entry(ROOM, 2, "m.mls.commit"),
        member(ROOM, 3, bob.user_id, "join"),
        member(ROOM, 4, bob.user_id, "leave"),
        entry(ROOM, 5, "m.mls.commit"),
    )
    (await bob.call("GET", f"{room(ROOM)}/event/{part('$2.' + ROOM)}")).ok()
    (await bob.call("GET", f"{room(ROOM)}/event/{part('$5.' + ROOM)}")).refused(404, "M_NOT_FOUND")


async def test_members_of_a_mimi_copy_are_the_users_of_this_server(server: Server, bob: Client) -> None:
    members = {bob.user_id: "join", "@alice:a.example": "leave"}
    await append(server.store, ROOM, entry(ROOM, 1), role=Role.FOLLOWER, memberships=members)
    assert (await bob.call("GET", f"{room(ROOM)}/joined_members")).ok() == {"joined": {bob.user_id: {}}}


async def test_an_imported_redaction_names_its_target_where_older_clients_look(
    server: Server, alice: Client
) -> None:
    redaction = entry(ROOM, 2, "m.room.redaction", content={"redacts": "$1", "reason": "spam"})
    await append(server.store, ROOM, member(ROOM, 1, alice.user_id, "join"), redaction)
    event = (await alice.call("GET", f"{room(ROOM)}/event/{part('$2.' + ROOM)}")).ok()
    assert event["redacts"] == event["content"]["redacts"] == "$1"
