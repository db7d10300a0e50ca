"""Two servers of ours in one room by Linearized Matrix: a.example orders it, b.example takes part."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
import trio
import trio.testing

from linearized.client import DecryptedMessage, EpochChanged, Joined
from linearized.exceptions import InvalidInput
from linearized.mimi.content import text
from linearized.protocol.build import build_event, complete_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event, parse_lpdu, parse_pdu
from linearized.protocol.verify import VerifiedLpdu
from linearized.protocol.versions import ROOM_VERSIONS, get_version
from linearized.room.submissions import LocalEvent, Reason, Rejected
from linearized.server import loading, participating
from linearized.server.outbound import OutboundError
from linearized.store.base import EntryRow, Reply, Role, RoomRow, UserRow
from tests.server.federation.support import V1, Foreign
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import bodies, encrypted_room, received, say, signed_in

ALICE = "@alice:a.example"
BOB = "@bob:b.example"
BILL = "@bill:b.example"
PATIENCE = 20


@dataclass
class HubPair:
    """A hub and a participant on one wire, and a room of Alice's that Bob may join."""

    a: Server
    b: Server
    network: Network
    room_id: str

    async def join(self, user_id: str = BOB) -> None:
        await self.b.node.rooms.join_remote(self.room_id, user_id=user_id, via=["a.example"])

    async def say(self, server: Server, body: str) -> str:
        sender = ALICE if server is self.a else BOB
        event = LocalEvent(sender=sender, type="m.room.message", content={"body": body})
        return await server.node.rooms.send(self.room_id, event)

    async def state(self, event_type: str, key: str, content: JsonObject, sender: str = ALICE) -> str:
        event = LocalEvent(sender=sender, type=event_type, state_key=key, content=content)
        return await self.a.node.rooms.send(self.room_id, event)

    def log(self, server: Server) -> list[EntryRow]:
        return server.node.store.entries(self.room_id, after=0, limit=1000)

    def row(self, server: Server) -> RoomRow:
        found = server.node.rooms.row(self.room_id)
        assert found is not None
        return found

    async def arrived(self, event_id: str) -> None:
        """Wait until b.example has an event."""
        with trio.fail_after(PATIENCE):
            while True:
                ticket = self.b.node.notifier.ticket(BOB)
                if self.b.node.store.entry_by_id(event_id) is not None:
                    return
                await ticket.wait()

    def agree(self) -> None:
        """b.example's log ends as a.example's does, event by event and byte by byte."""
        ours = {entry.event_id: entry.pdu for entry in self.log(self.b)}
        order = [entry.event_id for entry in self.log(self.a) if entry.event_id in ours]
        assert order[-1] == self.log(self.a)[-1].event_id
        assert [entry.event_id for entry in self.log(self.b)][-len(order) :] == order[-len(ours) :]
        assert all(ours[entry.event_id] == entry.pdu for entry in self.log(self.a) if entry.event_id in ours)

    def event(self, **changes: Any) -> JsonObject:
        """An event as the hub itself would make it next, in a log that never gets it."""
        last = self.log(self.a)[-1]
        settings: dict[str, Any] = {
            "identity": self.a.node.identity,
            "version": get_version(self.row(self.a).version),
            "room_id": self.room_id,
            "type": "m.room.message",
            "sender": ALICE,
            "content": {"body": "forged"},
            "origin_server_ts": 1,
            "auth_events": orjson.loads(last.pdu)["auth_events"],
            "prev_events": [last.event_id],
        }
        pdu: JsonObject = build_event(**{**settings, **changes}).pdu
        return pdu


@asynccontextmanager
async def hub_pair(
    directory: Path,
    *,
    version: str = "I.1",
    public: bool = True,
    creation_content: JsonObject | None = None,
) -> AsyncIterator[HubPair]:
    network = Network()
    async with (
        running_server("a.example", directory, network) as a,
        running_server("b.example", directory, network) as b,
    ):
        for server, user_id in ((a, ALICE), (b, BOB), (b, BILL)):
            await server.node.store.put_user(UserRow(user_id=user_id, password_hash=None, created_ts=0))
        rule = {"join_rule": "public" if public else "invite"}
        room_id = await a.node.rooms.create(
            creator=ALICE,
            version=version,
            creation_content=creation_content or {},
            initial=[LocalEvent(sender=ALICE, type="m.room.join_rules", state_key="", content=rule)],
        )
        yield HubPair(a, b, network, room_id)


@asynccontextmanager
async def joined_pair(directory: Path) -> AsyncIterator[HubPair]:
    async with hub_pair(directory) as pair:
        await pair.join()
        await pair.arrived(await pair.say(pair.a, "hello"))
        yield pair


# --- the ordinary course of things ---


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


# --- outages and gaps ---


async def miss(pair: HubPair, count: int) -> None:
    """Entries that b.example is never sent."""
    pair.network.down.add("b.example")
    for number in range(count):
        await pair.say(pair.a, f"missed {number}")
    await skip(pair)


async def skip(pair: HubPair) -> None:
    """Have the hub believe that b.example, which is away, has everything; it is back then."""
    (follower,) = pair.a.node.store.followers(pair.room_id)
    await pair.a.node.store.move_cursors([replace(follower, cursor=pair.row(pair.a).head_seq)])
    # What was sent without an answer would be sent again as it was.
    pair.a.node.followers._workers["b.example"]._pending = None
    pair.network.down.discard("b.example")


async def next_event(pair: HubPair) -> None:
    event_id = await pair.say(pair.a, "next")
    pair.a.node.followers.contacted("b.example")
    await pair.arrived(event_id)


@pytest.mark.parametrize("missing", [1, 3, 4, 7])
async def test_a_gap_is_closed_by_asking_the_hub_page_by_page(
    tmp_path: Path, missing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(participating, "BACKFILL_LIMIT", 3)
    async with joined_pair(tmp_path) as pair:
        before = pair.row(pair.b).head_seq
        await miss(pair, missing)
        await next_event(pair)
        assert pair.row(pair.b).head_seq == before + missing + 1
        pair.agree()
        asked = [entry for entry in pair.network.log if "/backfill/" in entry[3]]
        assert len(asked) == -(-missing // 3)


Backfill = Callable[[HubPair, list[JsonObject]], JsonObject]


def changed(pdu: JsonObject, **fields: Any) -> JsonObject:
    return {**pdu, **fields}


@pytest.mark.parametrize(
    "answer",
    [
        lambda pair, pdus: {},
        lambda pair, pdus: {"pdus": {}},
        lambda pair, pdus: {"pdus": [1]},
        lambda pair, pdus: {"pdus": []},
        lambda pair, pdus: {"pdus": [{}]},
        lambda pair, pdus: {"pdus": pdus[:-1]},
        lambda pair, pdus: {"pdus": [changed(pdu, signatures={}) for pdu in pdus]},
        lambda pair, pdus: {"pdus": [*pdus[:-1], changed(pdus[-1], prev_events=[])]},
        lambda pair, pdus: {"pdus": [*pdus[:-1], changed(pdus[-1], room_id="!other:a.example")]},
    ],
    ids=["none", "no list", "no object", "empty", "no event", "hole", "unsigned", "rootless", "other room"],
)
async def test_a_gap_the_hub_does_not_close_honestly_is_not_closed(
    tmp_path: Path, answer: Backfill, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined_pair(tmp_path) as pair:
        before = pair.log(pair.b)
        await miss(pair, 3)
        pdus = [orjson.loads(entry.pdu) for entry in pair.log(pair.a)[-3:]]

        async def request(*_: Any, **__: Any) -> JsonObject:
            return answer(pair, pdus)

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        with pytest.raises(InvalidInput):
            await pair.b.node.rooms.receive_pdu(pair.room_id, pair.event(), "a.example")
        assert pair.log(pair.b) == before


async def test_a_log_that_never_meets_ours_is_refused_at_its_beginning(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        before = pair.log(pair.b)
        # The same hub, another past: every event is well signed, none is the one we have.
        fork = pair.event(prev_events=[pair.log(pair.a)[-2].event_id])
        with pytest.raises(InvalidInput):
            await pair.b.node.rooms.receive_pdu(pair.room_id, fork, "a.example")
        assert pair.log(pair.b) == before


@pytest.mark.parametrize("limit", ["MAX_BACKFILLS", "MAX_GAP_BYTES"])
async def test_a_gap_has_a_largest_size(tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(participating, "BACKFILL_LIMIT", 1)
    monkeypatch.setattr(participating, limit, 2)
    async with joined_pair(tmp_path) as pair:
        await miss(pair, 4)
        with pytest.raises(Rejected):
            await pair.b.node.rooms.receive_pdu(pair.room_id, pair.event(), "a.example")


# --- a hub that is not to be trusted ---


@pytest.mark.parametrize(
    "forge",
    [
        lambda pair: changed(pair.event(), signatures={}),
        lambda pair: changed(pair.event(), origin_server_ts=2),
        lambda pair: changed(pair.event(), prev_events=["$x"]),
        lambda pair: changed(pair.event(), sender="@anna:a.example"),
        lambda pair: changed(pair.event(), room_id="!other:a.example"),
        lambda pair: pair.event(identity=replace(pair.b.node.identity, name="a.example")),
        lambda pair: pair.event(room_id="!other:a.example"),
        lambda pair: pair.event(sender="@stranger:a.example"),
        lambda pair: pair.event(auth_events=[]),
        lambda pair: pair.event(prev_events=[]),
        lambda pair: pair.event(prev_events=[pair.log(pair.a)[-1].event_id, pair.log(pair.a)[-2].event_id]),
        lambda pair: pair.event(identity=pair.b.node.identity, sender=BOB),
        lambda pair: {},
        lambda pair: {"room_id": pair.room_id},
    ],
    ids=[
        "unsigned", "other time", "other place", "other sender", "moved", "other key", "other room",
        "no member", "no authority", "no past", "two pasts", "not by the hub", "nothing", "hardly anything",
    ],
)  # fmt: skip
async def test_an_event_the_hub_should_not_have_sent_is_refused(
    tmp_path: Path, forge: Callable[[HubPair], JsonObject]
) -> None:
    async with joined_pair(tmp_path) as pair:
        before = pair.log(pair.b)
        with pytest.raises(InvalidInput):
            await pair.b.node.rooms.receive_pdu(pair.room_id, forge(pair), "a.example")
        assert pair.log(pair.b) == before
        await next_event(pair)


async def test_an_event_whose_content_was_changed_on_the_way_is_kept_without_it(tmp_path: Path) -> None:
    # "the event is redacted before further processing"
    async with joined_pair(tmp_path) as pair:
        pdu = pair.event()
        await pair.b.node.rooms.receive_pdu(
            pair.room_id, changed(pdu, content={"body": "changed"}), "a.example"
        )
        assert orjson.loads(pair.log(pair.b)[-1].pdu)["content"] == {}


async def test_only_the_hub_is_heard(tmp_path: Path) -> None:
    async with joined_pair(tmp_path) as pair:
        for room_id, origin in ((pair.room_id, "c.example"), ("!unknown:a.example", "a.example")):
            with pytest.raises(Rejected):
                await pair.b.node.rooms.receive_pdu(room_id, pair.event(), origin)
        with pytest.raises(Rejected) as refused:
            await pair.a.node.rooms.receive_pdu(pair.room_id, pair.event(), "a.example")
        assert refused.value.code is Reason.WRONG_HUB


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"state": [], "event": []},
        {"state": [], "event": {}},
        {"state": [3]},
        {"failed_pdus": {"$x": "?"}},
    ],
)
async def test_an_answer_to_a_join_that_does_not_hold_begins_no_copy(
    tmp_path: Path, answer: JsonObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hub_pair(tmp_path) as pair:
        real = pair.b.node.federation.request

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            if "send_join" in path:
                return answer
            return await real(server, method, path, **more)

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        with pytest.raises(InvalidInput):
            await pair.join()
        assert pair.b.node.rooms.row(pair.room_id) is None
        assert not pair.b.node.rooms.participating._locks


@pytest.mark.parametrize("spoil", ["another event", "lies about state", "timeline"])
async def test_the_state_of_a_join_is_checked(
    tmp_path: Path, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hub_pair(tmp_path) as pair:
        said = await pair.say(pair.a, "before")
        real = pair.b.node.federation.request

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            answer = await real(server, method, path, **more)
            if "send_join" not in path:
                return answer
            if spoil == "another event":
                return {**answer, "event": pair.event()}
            if spoil == "lies about state":
                return {
                    **answer,
                    "state": [*answer["state"][:-1], {**answer["state"][-1], "content": {}, "type": "x"}],
                }
            stored = pair.a.node.store.entry_by_id(said)
            assert stored is not None
            return {**answer, "state": [*answer["state"], orjson.loads(stored.pdu), answer["event"]]}

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        if spoil == "timeline":  # some peers send the whole of it, the join included
            await pair.join()
            assert [entry.type for entry in pair.log(pair.b)] == [
                "m.room.create", "m.room.member", "m.room.join_rules", "m.room.member",
            ]  # fmt: skip
        else:
            with pytest.raises(InvalidInput):
                await pair.join()
            assert pair.b.node.rooms.row(pair.room_id) is None


@pytest.mark.parametrize("room_id", [None, "!ours:c.example"])
@pytest.mark.parametrize("creator", [None, "@eve:c.example", ALICE])
async def test_only_the_creators_server_can_be_joined_through(
    tmp_path: Path, room_id: str | None, creator: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hub_pair(tmp_path) as pair:
        taken = room_id or pair.room_id
        eve = Foreign("c.example", pair.network)

        def event(kind: str, content: JsonObject, auth: list[str], sender: str = "@eve:c.example") -> Event:
            return build_event(
                identity=pair.a.node.identity if sender == ALICE else eve.identity,
                version=V1, room_id=taken, type=kind, sender=sender, content=content, origin_server_ts=1,
                auth_events=auth, prev_events=["$last"] if auth else [], state_key="",
            )  # fmt: skip

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            if "make_join" in path:
                return {"room_version": "I.1"}
            create = event("m.room.create", {"room_version": "I.1"}, [], creator or "@eve:c.example")
            rules = event("m.room.join_rules", {"join_rule": "public"}, [create.event_id])
            verified = VerifiedLpdu(lpdu=parse_lpdu(more["json"], V1), origin="b.example")
            joined = complete_lpdu(
                verified, identity=eve.identity, version=V1, prev_events=["$last"],
                auth_events=[*([create.event_id] if creator else []), rules.event_id],
            )  # fmt: skip
            return {"state": [*([create.pdu] if creator else []), rules.pdu], "event": joined.pdu}

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        rooms = pair.b.node.rooms
        if (room_id, creator) == ("!ours:c.example", "@eve:c.example"):
            await rooms.join_remote(taken, user_id=BOB, via=["c.example"])
            return
        with pytest.raises(InvalidInput):
            await rooms.join_remote(taken, user_id=BOB, via=["c.example"])
        assert rooms.row(taken) is None


@pytest.mark.parametrize(
    "answer",
    [{"failed_pdus": {"$x": {"error": "No"}}}, {"failed_pdus": {"$x": "No"}}, {"failed_pdus": {"$x": {}}}],
)
async def test_a_refusal_by_the_hub_reaches_who_sent(
    tmp_path: Path, answer: JsonObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined_pair(tmp_path) as pair:

        async def request(*_: Any, **__: Any) -> JsonObject:
            return answer

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        with pytest.raises(Rejected):
            await pair.say(pair.b, "?")
        assert not pair.b.node.rooms.participating._echoes


@pytest.mark.parametrize(
    ("said", "code", "epoch"),
    [
        ({"errcode": "M_WRONG_EPOCH", "current_epoch": 7}, Reason.WRONG_EPOCH, 7),
        ({"errcode": "M_WRONG_EPOCH", "current_epoch": "7"}, Reason.FORBIDDEN, None),
        ({"errcode": "M_WRONG_EPOCH", "current_epoch": True}, Reason.FORBIDDEN, None),
        ({"errcode": "M_OTHER", "current_epoch": 7}, Reason.FORBIDDEN, None),
    ],
)
async def test_who_sent_learns_which_epoch_it_is(
    tmp_path: Path, said: JsonObject, code: Reason, epoch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined_pair(tmp_path) as pair:

        async def request(*_: Any, **__: Any) -> JsonObject:
            return {"failed_pdus": {"$x": {"error": "No", **said}}}

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        with pytest.raises(Rejected) as refused:
            await pair.say(pair.b, "?")
        assert (refused.value.code, refused.value.current_epoch) == (code, epoch)


async def test_an_event_that_never_comes_back_is_not_said_to_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(participating, "ECHO_SECONDS", 0.05)
    async with joined_pair(tmp_path) as pair:

        async def request(*_: Any, **__: Any) -> JsonObject:
            return {"failed_pdus": []}

        monkeypatch.setattr(pair.b.node.federation, "request", request)
        with pytest.raises(trio.TooSlowError):
            await pair.say(pair.b, "?")


@pytest.mark.parametrize("late", [True, False])
async def test_what_is_sent_again_since_its_echo_was_late_is_one_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    async with joined_pair(tmp_path) as pair:
        event = LocalEvent(sender=BOB, type="m.room.message", content={"body": "once"})
        reply = Reply(scope="txn", key="1", value="{event_id}")
        pair.network.down.add("b.example")
        with monkeypatch.context() as patch:
            patch.setattr(participating, "ECHO_SECONDS", 0.2)
            with pytest.raises(trio.TooSlowError):
                await pair.b.node.rooms.send(pair.room_id, event, reply=reply)
        pair.network.down.discard("b.example")
        taken = pair.log(pair.a)[-1].event_id
        if not late:
            pair.a.node.followers.contacted("b.example")
            await pair.arrived(taken)
        assert await pair.b.node.rooms.send(pair.room_id, event, reply=reply) == taken
        assert [entry.sender for entry in pair.log(pair.a)].count(BOB) == 2  # the join and this
        another = replace(reply, key="2")
        assert await pair.b.node.rooms.send(pair.room_id, event, reply=another) != taken


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


# --- what another server sees of our copy and of the hub ---


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
