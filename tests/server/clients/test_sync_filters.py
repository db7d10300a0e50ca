"""What filters leave of a sync."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
import trio

from tests.server.clients.rows import append, entry, member, visibility
from tests.server.clients.support import Client, Server, part, room
from tests.server.clients.sync_support import ROOM, fill, seqs, types


async def test_a_filter_chooses_rooms_and_types(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 4)
    await append(server.store, "!other:x", member("!other:x", 1, alice.user_id, "join"))
    only = {"room": {"rooms": [ROOM], "timeline": {"types": ["m.room.n*"], "limit": 100}}}
    joined = (await alice.sync(filter=orjson.dumps(only).decode()))["rooms"]["join"]
    assert joined.keys() == {ROOM}
    assert types(joined[ROOM]["timeline"]["events"]) == ["m.room.name"]


async def test_a_filter_of_the_wrong_shape_is_refused(alice: Client) -> None:
    for bad in ('{"room":1}', '{"room":{"timeline":{"limit":"x"}}}', '{"room":{"rooms":"!r"}}'):
        (await alice.call("GET", "/sync", query={"filter": bad})).refused(400, "M_BAD_JSON")
    include = '{"room":{"include_leave":1}}'
    (await alice.call("GET", "/sync", query={"filter": include})).refused(400, "M_BAD_JSON")


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


async def test_each_part_of_a_filter_chooses_in_its_part_of_the_answer(server: Server, alice: Client) -> None:
    await fill(server, alice.user_id, 30)
    own = f"/user/{part(alice.user_id)}"
    for kind in ("m.direct", "x.other"):
        (await alice.call("PUT", f"{own}/account_data/{kind}", {})).ok()
        (await alice.call("PUT", f"{own}/rooms/{part(ROOM)}/account_data/{kind}", {})).ok()
    event_id = f"$30.{ROOM}"
    (await alice.call("POST", f"{room(ROOM)}/receipt/m.read/{part(event_id)}", {})).ok()
    (await alice.call("PUT", f"{room(ROOM)}/typing/{part(alice.user_id)}", {"typing": True})).ok()
    wanted: dict[str, Any] = {
        "account_data": {"types": ["m.*"]},
        "room": {
            "account_data": {"not_types": ["m.*"]},
            "ephemeral": {"types": ["m.typing"]},
            "state": {"not_types": ["m.room.member"]},
        },
    }
    answer = await alice.sync(filter=orjson.dumps(wanted).decode())
    joined = answer["rooms"]["join"][ROOM]
    assert types(answer["account_data"]["events"]) == ["m.direct"]
    assert types(joined["account_data"]["events"]) == ["x.other"]
    assert types(joined["ephemeral"]["events"]) == ["m.typing"]
    assert types(joined["state"]["events"]) == ["m.room.name"]
    nothing = {"account_data": {"types": []}, "room": {"ephemeral": {"not_rooms": [ROOM]}}}
    answer = await alice.sync(filter=orjson.dumps(nothing).decode())
    assert answer["account_data"]["events"] == []
    assert answer["rooms"]["join"][ROOM]["ephemeral"]["events"] == []


async def test_what_the_filter_leaves_out_does_not_end_the_wait_and_is_not_told_later(
    alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    nothing = '{"account_data":{"types":[]}}'
    since = (await alice.sync(filter=nothing))["next_batch"]
    start = trio.current_time()
    answers: list[Any] = []

    async def wait() -> None:
        answers.append(await alice.sync(since, filter=nothing, timeout=30_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(5)
        (await alice.call("PUT", f"/user/{part(alice.user_id)}/account_data/m.direct", {})).ok()
    assert trio.current_time() - start == pytest.approx(30)
    assert answers[0]["account_data"]["events"] == []


async def test_a_filter_chooses_by_sender_room_and_whether_there_is_a_url(
    server: Server, alice: Client
) -> None:
    await fill(server, alice.user_id, 3)
    picture = entry(ROOM, 4, content={"url": "mxc://a.example/x"}, sender="@bob:a.example")
    await append(server.store, ROOM, picture, entry(ROOM, 5, sender="@bob:a.example"))

    async def told(**timeline: Any) -> list[int]:
        wanted = orjson.dumps({"room": {"timeline": timeline}}).decode()
        return seqs((await alice.sync(filter=wanted))["rooms"]["join"][ROOM])

    assert await told(contains_url=True) == [4]
    assert await told(contains_url=False) == [1, 2, 3, 5]
    assert await told(senders=["@bob:a.example"]) == [4, 5]
    assert await told(not_senders=["@bob:a.example"]) == [1, 2, 3]
    assert await told(not_rooms=[ROOM]) == []
    assert await told(rooms=[ROOM], types=["m.room.message"], contains_url=True) == [4]


async def test_state_that_the_timeline_is_not_to_hold_comes_as_state(server: Server, alice: Client) -> None:
    """A client that wants only messages still learns that the room was renamed."""
    await fill(server, alice.user_id, 3)
    only = '{"room":{"timeline":{"types":["m.room.message"]}}}'
    since = (await alice.sync(filter=only))["next_batch"]
    names = [
        entry(ROOM, seq, "m.room.name", state_key="", content={"name": name})
        for seq, name in ((4, "once"), (5, "new"))
    ]
    await append(server.store, ROOM, *names, entry(ROOM, 6))
    joined = (await alice.sync(since, filter=only))["rooms"]["join"][ROOM]
    assert seqs(joined) == [6]
    assert [event["content"] for event in joined["state"]["events"]] == [{"name": "new"}]


async def test_state_that_stood_in_history_one_may_not_read_comes_as_state(
    server: Server, bob: Client
) -> None:
    entries = [
        visibility(ROOM, 1, "joined"),
        member(ROOM, 2, bob.user_id, "join"),
        member(ROOM, 3, bob.user_id, "leave"),
        entry(ROOM, 4, "m.room.name", state_key="", content={"name": "unseen"}),
        member(ROOM, 5, bob.user_id, "join"),
        entry(ROOM, 6),
    ]
    await append(server.store, ROOM, *entries)
    joined = (await bob.sync())["rooms"]["join"][ROOM]
    assert (seqs(joined), joined["timeline"]["limited"]) == ([5, 6], True)
    assert {"name": "unseen"} in [event["content"] for event in joined["state"]["events"]]
