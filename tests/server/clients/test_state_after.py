"""State as of the end of a timeline, for clients that ask for it (MSC4222)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from linearized.server.clients.sync import STATE_AFTER
from linearized.store.base import EntryRow
from tests.server.clients.rows import append, entry, member
from tests.server.clients.support import Client, Server
from tests.server.clients.sync_support import ROOM, fill, seqs, types

ASKED = {"use_state_after": "true"}


def name(seq: int, value: str) -> EntryRow:
    return entry(ROOM, seq, "m.room.name", state_key="", content={"name": value})


def names(section: Any) -> list[str]:
    events = section["state_after"]["events"]
    return [event["content"]["name"] for event in events if event["type"] == "m.room.name"]


@pytest.mark.parametrize("parameter", STATE_AFTER)
async def test_it_comes_under_the_name_that_was_asked_for_instead_of_state(
    server: Server, alice: Client, parameter: str
) -> None:
    await fill(server, alice.user_id, 3)
    joined = (await alice.sync(**{parameter: "true"}))["rooms"]["join"][ROOM]
    assert "state" not in joined
    assert types(joined[STATE_AFTER[parameter]]["events"]) == ["m.room.member", "m.room.name"]
    plain = (await alice.sync(**{parameter: "false"}))["rooms"]["join"][ROOM]
    assert plain["state"]["events"] == []


async def test_what_the_timeline_sets_is_in_it(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 3)
    since = (await alice.sync(**ASKED))["next_batch"]
    await append(server.store, ROOM, name(4, "once"), entry(ROOM, 5), name(6, "new"))
    joined = (await alice.sync(since, **ASKED))["rooms"]["join"][ROOM]
    assert (seqs(joined), names(joined)) == ([4, 5, 6], ["new"])
    whole = (await alice.sync(since, full_state="true", **ASKED))["rooms"]["join"][ROOM]
    assert (names(whole), len(whole["state_after"]["events"])) == (["new"], 2)


async def test_what_a_gap_set_is_in_it_and_of_two_the_latest(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 3)
    since = (await alice.sync(**ASKED))["next_batch"]
    topic = entry(ROOM, 4, "m.room.topic", state_key="", content={"topic": "x"})
    between = [entry(ROOM, seq) for seq in range(6, 40)]
    await append(server.store, ROOM, topic, name(5, "in the gap"), *between, name(40, "at the end"))
    joined = (await alice.sync(since, **ASKED))["rooms"]["join"][ROOM]
    assert (joined["timeline"]["limited"], names(joined)) == (True, ["at the end"])
    assert types(joined["state_after"]["events"]) == ["m.room.topic", "m.room.name"]


async def test_members_come_lazily_as_of_the_end(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 3)
    new = "@new:a.example"
    lazy = orjson.dumps({"room": {"state": {"lazy_load_members": True}}}).decode()
    since = (await alice.sync(filter=lazy, **ASKED))["next_batch"]
    await append(server.store, ROOM, member(ROOM, 4, new, "join"), entry(ROOM, 5, sender=new))
    joined = (await alice.sync(since, filter=lazy, **ASKED))["rooms"]["join"][ROOM]
    assert new in [event["state_key"] for event in joined["state_after"]["events"]]


async def test_a_room_one_has_left_has_it_as_of_the_leave(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 3)
    since = (await alice.sync(**ASKED))["next_batch"]
    await append(
        server.store, ROOM, name(4, "new"), member(ROOM, 5, alice.user_id, "leave"), name(6, "later")
    )
    left = (await alice.sync(since, **ASKED))["rooms"]["leave"][ROOM]
    assert (names(left), types(left["state_after"]["events"])) == (["new"], ["m.room.name", "m.room.member"])
