"""Redactions: who may redact what, and what every reader is shown of it afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from linearized.server.powers import may_redact_others
from linearized.server.redactions import counts
from linearized.store.base import Role
from tests.server.clients.rows import append, entry, member
from tests.server.clients.support import ENCRYPTED_ROOM, Client, Server, part, room

ROOM = "!r:a.example"
BOB, CAROL, DAN = "@bob:b.example", "@carol:c.example", "@dan:c.example"
V1 = "/_matrix/client/v1"


async def open_room(alice: Client, bob: Client, **body: Any) -> str:
    room_id = await alice.create_room(preset="public_chat", **body)
    (await bob.call("POST", f"/join/{part(room_id)}")).ok()
    return room_id


async def said(client: Client, room_id: str, body: str, txn: str) -> str:
    event_id: str = (await client.send(room_id, body, txn)).ok()["event_id"]
    return event_id


async def redact(client: Client, room_id: str, event_id: str, txn: str = "r", **body: Any) -> Any:
    return await client.call("PUT", f"{room(room_id)}/redact/{part(event_id)}/{txn}", body)


async def read(client: Client, room_id: str, event_id: str) -> Any:
    return (await client.call("GET", f"{room(room_id)}/event/{part(event_id)}")).ok()


async def test_what_one_said_is_shown_to_nobody_after_one_redacts_it(alice: Client, bob: Client) -> None:
    room_id = await open_room(alice, bob)
    event_id = await said(bob, room_id, "secret", "t1")
    since = (await alice.sync())["next_batch"]
    redaction = (await redact(bob, room_id, event_id, reason="too soon")).ok()["event_id"]
    assert (await redact(bob, room_id, event_id)).ok()["event_id"] == redaction  # once per transaction ID
    event = await read(alice, room_id, event_id)
    assert event["content"] == {}
    because = event["unsigned"]["redacted_because"]
    assert (because["event_id"], because["redacts"]) == (redaction, event_id)
    assert because["content"] == {"redacts": event_id, "reason": "too soon"}
    page = (await alice.call("GET", f"{room(room_id)}/messages", query={"dir": "b"})).ok()["chunk"]
    assert [each["content"] for each in page if each["event_id"] == event_id] == [{}]
    (told,) = (await alice.sync(since))["rooms"]["join"][room_id]["timeline"]["events"]
    assert told["event_id"] == redaction
    everything = await alice.sync()
    assert "secret" not in str(everything)


async def test_only_who_has_the_power_redacts_what_others_said(alice: Client, bob: Client) -> None:
    room_id = await open_room(alice, bob)
    hers, his = await said(alice, room_id, "hers", "t1"), await said(bob, room_id, "his", "t1")
    (await redact(bob, room_id, hers)).refused(403, "M_FORBIDDEN")
    path = f"{room(room_id)}/send/m.room.redaction/t2"
    (await bob.call("PUT", path, {"redacts": hers})).refused(403, "M_FORBIDDEN")
    (await bob.call("PUT", path, {})).refused(400, "M_BAD_JSON")
    assert "redacted_because" not in (await read(bob, room_id, hers))["unsigned"]
    (await alice.call("PUT", path, {"redacts": his})).ok()
    assert (await read(bob, room_id, his))["content"] == {}


async def test_an_event_that_one_cannot_read_is_not_there_to_redact(
    server: Server, alice: Client, bob: Client
) -> None:
    room_id, other = await open_room(alice, bob), await alice.create_room()
    elsewhere = await said(alice, other, "elsewhere", "t1")
    (await redact(bob, room_id, "$nothing")).refused(404, "M_NOT_FOUND")
    (await redact(alice, room_id, elsewhere)).refused(404, "M_NOT_FOUND")
    (await redact(bob, other, elsewhere)).refused(403, "M_FORBIDDEN")
    (await redact(bob, room_id, "$nothing", reason=7)).refused(400, "M_BAD_JSON")


async def test_an_encrypted_room_takes_no_redaction(alice: Client) -> None:
    room_id = await alice.create_room(creation_content=ENCRYPTED_ROOM, room_version="dev.linearized.1")
    state = (
        await alice.call("GET", f"{room(room_id)}/state/m.room.join_rules", query={"format": "event"})
    ).ok()
    (await redact(alice, room_id, state["event_id"])).refused(403, "M_FORBIDDEN")


async def test_redacted_state_says_nothing_wherever_it_is_read(alice: Client, bob: Client) -> None:
    room_id = await open_room(alice, bob, name="Rude name", topic="Fine")
    path = f"{room(room_id)}/state/m.room.name"
    event = (await alice.call("GET", path, query={"format": "event"})).ok()
    (await redact(alice, room_id, event["event_id"])).ok()
    assert (await bob.call("GET", path)).ok() == {}
    assert (await bob.call("GET", path, query={"format": "event"})).ok()["content"] == {}
    summary = (await bob.call("GET", f"{V1}/room_summary/{part(room_id)}")).ok()
    assert ("name" in summary, summary["topic"]) == (False, "Fine")
    (await alice.call("POST", f"{room(room_id)}/invite", {"user_id": "@zoe:a.example"})).ok()
    for client in (alice, bob):
        assert "Rude" not in str(await client.sync())


async def test_a_redacted_edit_or_answer_belongs_to_nothing_any_more(alice: Client) -> None:
    room_id = await alice.create_room()
    first = await said(alice, room_id, "first", "t1")

    async def belonging(kind: str, txn: str) -> str:
        content = {"body": txn, "m.relates_to": {"rel_type": kind, "event_id": first}}
        path = f"{room(room_id)}/send/m.room.message/{txn}"
        event_id: str = (await alice.call("PUT", path, content)).ok()["event_id"]
        return event_id

    async def children() -> list[str]:
        path = f"{room(room_id, V1)}/relations/{part(first)}"
        return [event["event_id"] for event in (await alice.call("GET", path)).ok()["chunk"]]

    edits = [await belonging("m.replace", f"edit {n}") for n in range(2)]
    answers = [await belonging("m.thread", f"answer {n}") for n in range(2)]
    (await redact(alice, room_id, edits[1], "r1")).ok()
    (await redact(alice, room_id, answers[1], "r2")).ok()
    summed = (await read(alice, room_id, first))["unsigned"]["m.relations"]
    assert summed["m.replace"]["event_id"] == edits[0]
    assert (summed["m.thread"]["count"], summed["m.thread"]["latest_event"]["event_id"]) == (1, answers[0])
    assert await children() == [answers[0], edits[0]]
    (await redact(alice, room_id, first, "r3")).ok()
    event = await read(alice, room_id, first)
    assert (event["content"], list(event["unsigned"]["m.relations"])) == ({}, ["m.thread"])


LEVELS = {"users": {CAROL: 50, BOB: 100}, "redact": 60}


@pytest.mark.parametrize(
    ("levels", "sender", "powerful"),
    [
        (LEVELS, BOB, True),
        (LEVELS, CAROL, False),
        ({**LEVELS, "redact": "60"}, CAROL, True),
        ({**LEVELS, "users_default": 60}, DAN, True),
        ({"users": "all"}, BOB, False),
        ({}, "@alice:a.example", False),
        (None, "@alice:a.example", True),
        (None, BOB, False),
    ],
)
async def test_whose_redactions_count_is_said_by_the_power_levels_of_their_time(
    server: Server, levels: dict[str, Any] | None, sender: str, powerful: bool
) -> None:
    state = [entry(ROOM, 1, "m.room.create", state_key="")]
    if levels is not None:
        state.append(entry(ROOM, 2, "m.room.power_levels", state_key="", content=levels))
    await append(server.store, ROOM, *state)
    assert may_redact_others(server.store, ROOM, sender, seq=9) is powerful
    target = entry(ROOM, 3, sender="@eve:e.example")
    redaction = entry(ROOM, 4, "m.room.redaction", sender=sender, content={"redacts": target.event_id})
    assert counts(server.store, redaction, target) is powerful
    assert counts(server.store, redaction, entry(ROOM, 3, sender="@x:" + sender.split(":")[1]))
    assert not counts(server.store, redaction, entry(ROOM, 5, sender=sender))


async def test_the_first_redaction_that_counts_is_the_one_that_is_told(server: Server, alice: Client) -> None:
    target = f"$2.{ROOM}"
    await append(
        server.store,
        ROOM,
        member(ROOM, 1, alice.user_id, "join"),
        entry(ROOM, 2, sender=BOB, content={"body": "hm"}),
        *[
            entry(ROOM, seq, "m.room.redaction", sender=sender, content={"redacts": target})
            for seq, sender in ((3, CAROL), (4, BOB), (5, BOB))
        ],
        role=Role.PARTICIPANT,
    )
    event = await read(alice, ROOM, target)
    assert event["unsigned"]["redacted_because"]["event_id"] == f"$4.{ROOM}"
