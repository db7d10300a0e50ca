"""Two servers of ours in one room by Linearized Matrix: the ordinary course of things, and what it costs."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
import trio
import trio.testing

from linearized.client import DecryptedMessage, EpochChanged, Joined
from linearized.mimi.content import text
from linearized.protocol.events import parse_pdu
from linearized.protocol.versions import ROOM_VERSIONS, get_version
from linearized.room.submissions import LocalEvent, Reason, Rejected
from linearized.server import loading
from linearized.server.outbound import OutboundError
from linearized.store.base import Role
from tests.server.linearized_pair import (
    ALICE,
    BILL,
    BOB,
    hub_pair,
    joined_pair,
)
from tests.server.support import Network, running_server
from tests.server.test_two_providers import bodies, encrypted_room, received, say, signed_in


async def test_an_invite_through_the_hub_and_the_join_that_follows(tmp_path: Path) -> None:
    async with hub_pair(tmp_path, public=False) as pair:
        with pytest.raises(OutboundError):
            await pair.join()
        assert pair.b.node.rooms.row(pair.room_id) is None
        await pair.a.node.rooms.invite(pair.room_id, sender=ALICE, target=BOB)
        await pair.join()
        assert (pair.row(pair.b).role, pair.row(pair.b).hub) == (Role.PARTICIPANT, "a.example")
        # and the participant invites in its turn, through the hub
        await pair.state("m.room.power_levels", "", {"users": {ALICE: 100, BOB: 50}, "invite": 50})
        await pair.b.node.rooms.invite(pair.room_id, sender=BOB, target=BILL, reason="Come")
        await pair.join(BILL)
        pair.agree()
        members = {row.user_id: row.membership for row in pair.b.node.store.memberships(pair.room_id)}
        assert members == {ALICE: "join", BOB: "join", BILL: "join"}


async def test_messages_of_both_sides_stand_in_both_logs_in_the_hubs_order(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(pair.say, pair.a, f"a{number}")
                nursery.start_soon(pair.say, pair.b, f"b{number}")
        await pair.arrived(await pair.say(pair.a, "the end"))
        assert pair.row(pair.a).head_seq >= 14
        pair.agree()


@pytest.mark.parametrize("version", ROOM_VERSIONS)
async def test_a_room_of_each_version_has_a_hub_and_a_participant(tmp_path: Path, version: str) -> None:
    async with hub_pair(tmp_path, version=version) as pair:
        await pair.join()
        assert [pair.row(server).version for server in (pair.a, pair.b)] == [version, version]
        await pair.arrived(await pair.say(pair.a, "hello"))
        said = await pair.say(pair.b, "hello yourself")
        await pair.state("m.room.power_levels", "", {"users": {ALICE: 100, BOB: 50}, "invite": 50})
        await pair.b.node.rooms.invite(pair.room_id, sender=BOB, target=BILL)
        await pair.join(BILL)
        leave = LocalEvent(sender=BOB, type="m.room.member", state_key=BOB, content={"membership": "leave"})
        await pair.b.node.rooms.send(pair.room_id, leave)
        pair.agree()
        asked = [path for *_, path in pair.network.log]
        assert len([path for path in asked if "/make_join/" in path]) == 1, "the second joins directly"
        assert [path for path in asked if "_leave/" in path] == []
        entry = pair.b.node.store.entry_by_id(said)
        assert entry is not None
        event = parse_pdu(orjson.loads(entry.pdu), get_version(version))
        assert (event.sender, event.hub_server) == (BOB, "a.example")
        assert ("lpdu" in event.pdu["hashes"]) == get_version(version).lpdu_hashes
        members = {row.user_id: row.membership for row in pair.b.node.store.memberships(pair.room_id)}
        assert members == {ALICE: "join", BOB: "leave", BILL: "join"}


async def test_the_same_words_at_the_same_time_are_two_events(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        found: list[str] = []
        event = LocalEvent(sender=BOB, type="m.room.message", content={"body": "Hi"}, origin_server_ts=5)

        async def send() -> None:
            found.append(await pair.b.node.rooms.send(pair.room_id, event))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(send)
        assert len(set(found)) == 3
        pair.agree()


async def test_an_encrypted_room_has_clients_of_both_sides_in_its_group(tmp_path: Path) -> None:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await encrypted_room(alice)
        await a.node.rooms.invite(room_id, sender=ALICE, target=BOB)
        await b.node.rooms.join_remote(room_id, user_id=BOB, via=["a.example"])
        await alice.groups.invite(room_id, [BOB])
        await received(bob, Joined)
        await alice.send(room_id, text("Hello Bob", salt=secrets.token_bytes(16)))
        assert bodies(await received(bob, DecryptedMessage)) == ["Hello Bob"]
        await say(bob, room_id, "Hello Alice")
        assert bodies(await received(alice, DecryptedMessage)) == ["Hello Alice"]
        await bob.groups.update_keys(room_id)
        await received(alice, EpochChanged)
        await say(alice, room_id, "New epoch")
        assert bodies(await received(bob, DecryptedMessage)) == ["New epoch"]
        row_a, row_b = a.node.rooms.row(room_id), b.node.rooms.row(room_id)
        assert row_a is not None
        assert row_b is not None
        assert (row_b.role, row_b.epoch) == (Role.PARTICIPANT, row_a.epoch)
        commits = [
            entry
            for entry in b.node.store.entries(room_id, after=0, limit=100)
            if entry.type == "m.mls.commit" and entry.sender in {ALICE, BOB}
        ]
        assert [entry.sender for entry in commits] == [ALICE, BOB]


async def test_a_kick_is_the_last_thing_delivered(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        kick = await pair.state("m.room.member", BOB, {"membership": "leave", "reason": "Enough"})
        await pair.arrived(kick)
        await pair.say(pair.a, "in private")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert pair.log(pair.b)[-1].event_id == kick
        (follower,) = map(pair.a.node.followers.progress.of, pair.a.node.store.followers(pair.room_id))
        assert follower.stop_seq == follower.cursor
        with pytest.raises(Rejected) as refused:
            await pair.say(pair.b, "me too")
        assert refused.value.code is Reason.FORBIDDEN


async def test_a_server_that_comes_back_gets_what_it_may_see_and_goes_on(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        leave = LocalEvent(sender=BOB, type="m.room.member", state_key=BOB, content={"membership": "leave"})
        await pair.b.node.rooms.send(pair.room_id, leave)
        await pair.say(pair.a, "meanwhile")
        await pair.join()
        await pair.say(pair.b, "back")
        pair.agree()


async def test_two_users_that_join_at_once_share_one_copy(tmp_path: Path) -> None:
    async with hub_pair(tmp_path) as pair:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.join, BOB)
            nursery.start_soon(pair.join, BILL)
        pair.agree()
        members = {
            row.user_id for row in pair.b.node.store.memberships(pair.room_id) if row.membership == "join"
        }
        assert members == {ALICE, BOB, BILL}


async def test_a_join_tries_the_servers_it_was_told_of(tmp_path: Path) -> None:
    async with hub_pair(tmp_path) as pair:
        rooms = pair.b.node.rooms
        await rooms.join_remote(pair.room_id, user_id=BOB, via=["c.example", "a.example"])
        assert pair.row(pair.b).hub == "a.example"
        with pytest.raises(OutboundError):
            await rooms.join_remote("!unknown:c.example", user_id=BOB, via=["c.example", "a.example"])
        with pytest.raises(Rejected):
            await rooms.join_remote("!unknown:c.example", user_id=BOB, via=[])


async def test_an_event_does_not_cost_reading_the_whole_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined_pair(tmp_path) as pair:
        last = await pair.say(pair.a, "one")
        await pair.arrived(last)
        with monkeypatch.context() as patch:
            patch.setattr(type(pair.b.node.store), "state_at", None)
            for number in range(3):
                topic = {"type": "m.room.topic", "state_key": "", "content": {"topic": str(number)}}
                await pair.b.node.rooms.receive_pdu(
                    pair.room_id, pair.event(**topic, prev_events=[last]), "a.example"
                )
                last = pair.log(pair.b)[-1].event_id
            assert [entry.type for entry in pair.log(pair.b)][-3:] == ["m.room.topic"] * 3
        state = pair.b.node.rooms.state(pair.room_id)
        assert state["m.room.topic", ""].event_id == last


def test_states_of_few_events_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MAX_KEPT_EVENTS", 3)
    states = loading.States(cast("Any", None))
    for number in range(5):
        states.keep(f"!{number}:a.example", 1, dict.fromkeys([("a", ""), ("b", "")], cast("Any", None)))
    assert list(states._kept) == ["!4:a.example"]


async def test_event_state_and_backfill_are_the_hubs_to_give(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        said = await pair.say(pair.a, "look")
        ask = pair.b.node.federation.request
        room, base = pair.room_id.replace("!", "%21").replace(":", "%3A"), "/_matrix/federation"
        event = await ask("a.example", "GET", f"{base}/v2/event/{said.replace('$', '%24')}")
        assert event["content"] == {"body": "look"}
        query = f"event_id={said.replace('$', '%24')}"
        state = await ask("a.example", "GET", f"{base}/v1/state/{room}?{query}")
        ids = await ask("a.example", "GET", f"{base}/v1/state_ids/{room}?{query}")
        assert len(state["pdus"]) == len(ids["pdu_ids"]) == 4
        pdus = (
            await ask("a.example", "GET", f"{base}/v2/backfill/{room}?v={said.replace('$', '%24')}&limit=2")
        )["pdus"]
        assert [pdu["content"] for pdu in pdus] == [{"body": "hello"}, {"body": "look"}]
        with pytest.raises(OutboundError) as refused:  # b.example has the room, but does not order it
            await pair.a.node.federation.request("b.example", "GET", f"{base}/v1/state/{room}?{query}")
        assert refused.value.errcode == "M_WRONG_SERVER"
