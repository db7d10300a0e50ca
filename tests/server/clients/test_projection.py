"""What stands in a client event beside the entry's own members."""

from __future__ import annotations

from typing import Any

from tests.server.clients.rows import append, entry, member, visibility
from tests.server.clients.support import Client, Server, part, room

ROOM = "!r:a.example"


async def renamed(alice: Client, *names: str) -> str:
    room_id = await alice.create_room(name=names[0])
    for name in names[1:]:
        (await alice.call("PUT", f"{room(room_id)}/state/m.room.name", {"name": name})).ok()
    return room_id


def named(events: list[Any]) -> list[Any]:
    return [event for event in events if event["type"] == "m.room.name"]


async def test_a_state_event_comes_with_what_it_replaced_wherever_it_is_an_event(alice: Client) -> None:
    since = (await alice.sync())["next_batch"]
    room_id = await renamed(alice, "one", "two")
    page = (await alice.call("GET", f"{room(room_id)}/messages", query={"dir": "f", "limit": 99})).ok()
    first, second = named(page["chunk"])
    assert "prev_content" not in first["unsigned"]
    assert (second["unsigned"]["prev_content"], second["unsigned"]["replaces_state"]) == (
        {"name": "one"},
        first["event_id"],
    )
    by_id = (await alice.call("GET", f"{room(room_id)}/event/{part(second['event_id'])}")).ok()
    assert by_id["unsigned"]["prev_content"] == {"name": "one"}
    timeline = (await alice.sync(since))["rooms"]["join"][room_id]["timeline"]["events"]
    assert [event["unsigned"].get("prev_content") for event in named(timeline)] == [None, {"name": "one"}]
    around = (await alice.call("GET", f"{room(room_id)}/context/{part(first['event_id'])}")).ok()
    assert named(around["events_after"])[0]["unsigned"]["prev_content"] == {"name": "one"}


async def test_the_state_of_a_room_says_nothing_of_what_was_before(alice: Client) -> None:
    room_id = await renamed(alice, "one", "two")
    state = (await alice.call("GET", f"{room(room_id)}/state")).ok()
    assert "prev_content" not in named(state)[0]["unsigned"]


async def test_a_redacted_name_is_not_told_as_the_one_before(alice: Client) -> None:
    room_id = await renamed(alice, "secret", "two")
    path = f"{room(room_id)}/messages"
    page = (await alice.call("GET", path, query={"dir": "f", "limit": 99})).ok()
    first = named(page["chunk"])[0]["event_id"]
    (await alice.call("PUT", f"{room(room_id)}/redact/{part(first)}/t", {})).ok()
    page = (await alice.call("GET", path, query={"dir": "f", "limit": 99})).ok()
    assert named(page["chunk"])[1]["unsigned"]["prev_content"] == {}


async def test_what_one_may_not_read_is_not_told_as_the_one_before(server: Server, bob: Client) -> None:
    names = {3: "unseen", 5: "seen"}
    entries = [
        visibility(ROOM, 1, "joined"),
        entry(ROOM, 2),
        entry(ROOM, 3, "m.room.name", state_key="", content={"name": names[3]}),
        member(ROOM, 4, bob.user_id, "join"),
        entry(ROOM, 5, "m.room.name", state_key="", content={"name": names[5]}),
        entry(ROOM, 6, "m.room.name", state_key="", content={"name": "last"}),
    ]
    await append(server.store, ROOM, *entries)
    timeline = (await bob.sync())["rooms"]["join"][ROOM]["timeline"]["events"]
    before = [event["unsigned"].get("prev_content") for event in named(timeline)]
    assert before == [None, {"name": "seen"}]


async def test_who_was_thrown_out_before_joining_is_told_the_entry_alone(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    since = (await bob.sync())["next_batch"]
    (await alice.call("POST", f"{room(room_id)}/kick", {"user_id": bob.user_id})).ok()
    (told,) = (await bob.sync(since))["rooms"]["leave"][room_id]["timeline"]["events"]
    assert "prev_content" not in told["unsigned"]
