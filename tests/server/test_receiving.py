"""Events that a participant is sent together: one append if they are right, and each for itself if not."""

from __future__ import annotations

from pathlib import Path

import orjson

from linearized.protocol.canonical import JsonObject
from tests.server.linearized_pair import ALICE, HubPair, joined_pair, miss, skip
from tests.server.support import commits


async def unsent(pair: HubPair, count: int) -> list[JsonObject]:
    """The hub's next events, which it does not send by itself."""
    head = pair.row(pair.a).head_seq
    await miss(pair, count)
    return [orjson.loads(entry.pdu) for entry in pair.log(pair.a) if entry.seq > head]


async def test_events_that_follow_one_another_are_one_append(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        pdus = await unsent(pair, 20)
        before = commits(pair.b)
        assert await pair.b.node.rooms.receive_pdus(pair.room_id, pdus, "a.example") == [None] * 20
        assert commits(pair.b) - before == 1
        pair.agree()


async def test_what_is_wrong_with_one_is_said_of_that_one(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        first, second, third = await unsent(pair, 3)
        forged = {**second, "signatures": {}}
        stranger = pair.event(sender="@stranger:a.example", prev_events=[pair.log(pair.b)[-1].event_id])
        sent = [stranger, first, forged, second, third]
        outcomes = await pair.b.node.rooms.receive_pdus(pair.room_id, sent, "a.example")
        assert [outcome is None for outcome in outcomes] == [False, True, False, True, True]
        pair.agree()


async def test_an_event_sent_twice_is_taken_for_received(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        first, second = await unsent(pair, 2)
        receive = pair.b.node.rooms.receive_pdus
        assert await receive(pair.room_id, [first, first, second], "a.example") == [None] * 3
        assert await receive(pair.room_id, [first, second], "a.example") == [None] * 2
        pair.agree()


async def test_what_is_missing_before_the_first_is_fetched_and_all_is_one_append(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        pdus = await unsent(pair, 6)
        before = commits(pair.b)
        assert await pair.b.node.rooms.receive_pdus(pair.room_id, pdus[3:], "a.example") == [None] * 3
        assert commits(pair.b) - before == 1
        pair.agree()


async def test_what_is_missing_in_the_middle_is_fetched_too(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        pdus = await unsent(pair, 5)
        sent = [*pdus[:2], *pdus[4:]]
        assert await pair.b.node.rooms.receive_pdus(pair.room_id, sent, "a.example") == [None] * 3
        pair.agree()


async def test_a_hub_that_an_acl_shuts_out_is_not_heard_after_it_in_the_same_transaction(
    tmp_path: Path,
) -> None:
    async with joined_pair(tmp_path) as pair:
        head = pair.row(pair.a).head_seq
        pair.network.down.add("b.example")
        await pair.state("m.room.server_acl", "", {"allow": ["*"], "deny": ["a.example"]}, sender=ALICE)
        await pair.say(pair.a, "still here")
        await skip(pair)
        ruled, said = [orjson.loads(entry.pdu) for entry in pair.log(pair.a) if entry.seq > head]
        request = {"pdus": [ruled, said]}
        path = "/_matrix/federation/v2/send/together"
        answer = await pair.a.node.federation.request("b.example", "PUT", path, json=request)
        assert len(answer["failed_pdus"]) == 1
        assert pair.log(pair.b)[-1].type == "m.room.server_acl"
