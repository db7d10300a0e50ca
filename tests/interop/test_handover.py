"""A room is handed over to another hub while a third participant follows and the MLS group goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import trio
from jsonschema import Draft202012Validator

from linearized.client import DecryptedMessage, EpochChanged, Joined, Session
from linearized.exceptions import InvalidInput, StoreError
from linearized.protocol.build import build_event
from linearized.protocol.canonical import JsonObject
from linearized.protocol.versions import get_version
from linearized.room.checkpoint import read_checkpoint, sign_checkpoint
from linearized.room.submissions import LocalEvent, Reason, Rejected
from linearized.room_check import check_room
from linearized.server import moves
from linearized.server.exchange import OutboundError
from linearized.server.federation import transfer as transfer_face
from linearized.server.hub import Overloaded
from linearized.server.mls import OpenMls
from linearized.server.moves import Moves
from linearized.store.base import Role, RoomRow
from tests.interop.hostile_hub import ALICE, BOB, CAROL, PATIENCE, USERS, arrived, shared_room
from tests.interop.test_two_histories import schema
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import bodies, encrypted_room, received, say, signed_in

PEERS = (*USERS, "d.example")


@dataclass
class Club:
    """Three providers with a user each in one encrypted room, which a.example orders."""

    a: Server
    b: Server
    c: Server
    alice: Session
    bob: Session
    carol: Session
    room_id: str
    network: Network

    def row(self, server: Server) -> RoomRow:
        found = server.node.store.room(self.room_id)
        assert found is not None
        return found

    async def ordered_by(self, server: Server, hub: str, role: Role) -> None:
        """Wait until a server sees a hub, and itself in a role."""
        with trio.fail_after(PATIENCE):
            while (self.row(server).hub, self.row(server).role) != (hub, role):
                ticket = server.node.notifier.ticket(USERS[server.name])
                if (self.row(server).hub, self.row(server).role) != (hub, role):
                    await ticket.wait()

    async def hand_over(self) -> str:
        event_id = await self.a.node.moves.transfer(self.room_id, "b.example")
        await self.ordered_by(self.b, "b.example", Role.HUB)
        await self.ordered_by(self.c, "b.example", Role.PARTICIPANT)
        return event_id

    async def heard(self, body: str, sender: Session, *others: Session) -> None:
        await say(sender, self.room_id, body)
        for other in others:
            assert bodies(await received(other, DecryptedMessage)) == [body]

    def log(self, server: Server) -> list[str]:
        return [row.event_id for row in server.node.store.entries(self.room_id, after=0, limit=1000)]


@asynccontextmanager
async def club(directory: Path, *, power: int = 100) -> AsyncIterator[Club]:
    network = Network()
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(running_server(name, directory, network, peers=PEERS))
            for name in USERS
        ]
        sessions = [
            await stack.enter_async_context(
                signed_in(server, await server.user(USERS[server.name][1:].partition(":")[0]))
            )
            for server in servers
        ]
        a, b, c = servers
        alice, bob, carol = sessions
        room_id = await encrypted_room(alice)
        for server in (b, c):
            user = USERS[server.name]
            await a.node.rooms.invite(room_id, sender=ALICE, target=user)
            await server.node.rooms.join_remote(room_id, user_id=user, via=["a.example"])
        await alice.groups.invite(room_id, [BOB, CAROL])
        await received(bob, Joined)
        await received(carol, Joined)
        levels = {"users": {ALICE: 100, BOB: power}}
        last = await a.node.rooms.send(
            room_id, LocalEvent(sender=ALICE, type="m.room.power_levels", state_key="", content=levels)
        )
        for server in (b, c):
            await arrived(server, last)
        yield Club(a, b, c, alice, bob, carol, room_id, network)


async def test_a_room_goes_on_at_its_new_hub(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        await world.heard("before", world.alice, world.bob, world.carol)
        before = world.log(world.a)
        transfer = await world.hand_over()

        # The log is the old one with the transfer after it, whole at the new hub, and both have signed that.
        assert world.log(world.b) == [*before, transfer] == world.log(world.a)
        event = world.b.node.store.entry_by_id(transfer)
        assert event is not None
        pdu = orjson.loads(event.pdu)
        assert set(pdu["signatures"]) == {"a.example", "b.example"}
        assert (pdu["sender"], pdu["hub_server"]) == (BOB, "a.example")
        assert (world.row(world.a).role, world.row(world.a).hub) == (Role.PARTICIPANT, "b.example")

        # Messages and commits of all three go through the new hub, and reach everybody.
        await world.heard("from the new hub", world.bob, world.alice, world.carol)
        await world.heard("from the old one", world.alice, world.bob, world.carol)
        await world.heard("from a participant", world.carol, world.alice, world.bob)
        epoch = world.row(world.b).epoch
        await world.alice.groups.update_keys(world.room_id)
        for session in (world.bob, world.carol):
            await received(session, EpochChanged)
        assert world.row(world.b).epoch == (epoch or 0) + 1
        await world.heard("in the new epoch", world.carol, world.alice, world.bob)
        assert world.log(world.a) == world.log(world.b)

        # The new hub's log holds under the same check as any.
        keys = {
            name: server.node.identity.key.verify_key
            for name, server in zip(USERS, (world.a, world.b, world.c), strict=True)
        }
        report = check_room(
            world.b.node.store, world.room_id,
            keys=lambda server, _: keys.get(server), mls=OpenMls(world.b.node.clock),
        )  # fmt: skip
        assert report.entries == len(world.log(world.b))


async def test_what_the_hubs_say_to_each_other_is_what_the_schemas_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()

    def watched(server: Server) -> None:
        real = server.node.federation.request

        async def request(name: str, method: str, path: str, **more: Any) -> JsonObject:
            answer = await real(name, method, path, **more)
            kind = path.partition("?")[0].rpartition("/")[2]
            if kind in {"log", "prepare"}:
                Draft202012Validator(schema("log" if kind == "log" else "transfer_prepare")).validate(answer)
            elif kind == "accept":
                both = schema("transfer_accept")["$defs"]
                Draft202012Validator(both["request"]).validate(more["json"])
                Draft202012Validator(both["response"]).validate(answer)
            seen.add(kind)
            return answer

        monkeypatch.setattr(server.node.federation, "request", request)

    async with club(tmp_path) as world:
        watched(world.a)
        watched(world.b)
        await world.hand_over()
        assert seen >= {"log", "prepare", "accept"}


async def test_the_old_hub_names_the_new_one(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        await world.hand_over()
        room = world.room_id.replace("!", "%21").replace(":", "%3A")
        with pytest.raises(OutboundError) as refused:
            await world.c.node.federation.request(
                "a.example",
                "GET",
                f"/_matrix/federation/v1/make_join/{room}/%40cleo%3Ac.example?ver=dev.linearized.1",
            )
        assert (refused.value.errcode, refused.value.hub) == ("M_WRONG_SERVER", "b.example")
        with pytest.raises(Rejected) as rejected:
            await world.a.node.rooms.submit(
                world.room_id, LocalEvent(sender=ALICE, type="m.room.topic", state_key="", content={})
            )
        assert rejected.value.code is Reason.WRONG_HUB
        assert "b.example" in str(rejected.value)


async def test_checkpoints_of_the_new_hub_continue_those_of_the_old_one(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        assert await world.c.node.audits.audit(world.room_id) is None
        old = world.c.node.store.audit(world.room_id)
        await world.hand_over()
        for server in (world.a, world.c):  # a.example's first one; c.example's goes on
            assert await server.node.audits.audit(world.room_id) is None
            held = server.node.store.audit(world.room_id)
            assert held is not None
            assert held.hub == "b.example"
            assert read_checkpoint(held.checkpoint).size == len(world.log(world.b))
        # It is one log: the anchor of before still holds, and so does the old hub's root.
        assert old is not None
        assert held is not None
        assert (held.anchor_seq, held.anchor_size) == (old.anchor_seq, old.anchor_size)
        assert not world.c.node.store.findings()


# --- who comes later ---


async def test_a_transferred_room_is_joined_through_its_present_hub(tmp_path: Path) -> None:
    async with (
        club(tmp_path) as world,
        running_server("d.example", tmp_path, world.network, peers=PEERS) as d,
    ):
        await world.hand_over()
        public = LocalEvent(
            sender=BOB, type="m.room.join_rules", state_key="", content={"join_rule": "public"}
        )
        await world.b.node.rooms.send(world.room_id, public)
        dora = await d.user("dora")
        # The server in the room's ID says where the room has gone.
        await d.node.rooms.join_remote(world.room_id, user_id=dora, via=["a.example"])
        row = d.node.store.room(world.room_id)
        assert row is not None
        assert (row.hub, row.role) == ("b.example", Role.PARTICIPANT)
        assert await d.node.audits.audit(world.room_id) is None
        held = d.node.store.audit(world.room_id)
        assert held is not None
        assert held.size == len(world.log(world.b))


async def test_the_new_hub_invites_and_the_old_one_cannot_any_more(tmp_path: Path) -> None:
    async with (
        club(tmp_path) as world,
        running_server("d.example", tmp_path, world.network, peers=PEERS) as d,
    ):
        dora = await d.user("dora")
        await world.hand_over()
        await world.b.node.rooms.invite(world.room_id, sender=BOB, target=dora)
        row = d.node.store.room(world.room_id)
        assert row is not None
        assert row.hub == "b.example"
        await d.node.rooms.join_remote(world.room_id, user_id=dora, via=[])
        assert [m.membership for m in d.node.store.memberships(world.room_id) if m.user_id == dora] == [
            "join"
        ]


@pytest.mark.parametrize(
    "spoil", ["nothing", "no transfers", "no create", "another room", "forged", "too many", "no list"]
)
async def test_an_invite_from_a_server_that_is_not_shown_to_be_the_hub_is_refused(
    tmp_path: Path, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        club(tmp_path) as world,
        running_server("d.example", tmp_path, world.network, peers=PEERS) as d,
    ):
        dora = await d.user("dora")
        await world.hand_over()
        real = world.b.node.federation.request

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            if "/invite/" in path:
                body = more["json"]
                create, transfer = body["dev.linearized.hub_events"]
                signatures = {**transfer["signatures"], "a.example": transfer["signatures"]["b.example"]}
                body["dev.linearized.hub_events"] = {
                    "nothing": None,
                    "no transfers": [create],
                    "no create": [transfer, transfer],
                    "another room": [{**create, "room_id": "!other:a.example"}, transfer],
                    "forged": [create, {**transfer, "signatures": signatures}],
                    "too many": [create, *[transfer] * 21],
                    "no list": {"0": create},
                }[spoil]
            return await real(server, method, path, **more)

        monkeypatch.setattr(world.b.node.federation, "request", request)
        with pytest.raises(OutboundError) as refused:
            await world.b.node.rooms.invite(world.room_id, sender=BOB, target=dora)
        assert refused.value.errcode == "M_FORBIDDEN" or refused.value.status == 400
        assert d.node.store.room(world.room_id) is None


async def test_a_join_through_a_server_without_the_links_of_the_chain_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        club(tmp_path) as world,
        running_server("d.example", tmp_path, world.network, peers=PEERS) as d,
    ):
        await world.hand_over()
        public = LocalEvent(
            sender=BOB, type="m.room.join_rules", state_key="", content={"join_rule": "public"}
        )
        await world.b.node.rooms.send(world.room_id, public)
        dora = await d.user("dora")
        real = d.node.federation.request

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            answer = await real(server, method, path, **more)
            if "send_join" in path:
                answer["state"] = [pdu for pdu in answer["state"] if pdu["type"] != "m.room.hub"]
            return answer

        monkeypatch.setattr(d.node.federation, "request", request)
        with pytest.raises(Rejected) as refused:
            await d.node.rooms.join_remote(world.room_id, user_id=dora, via=["b.example"])
        assert refused.value.code is Reason.WRONG_HUB
        assert d.node.store.room(world.room_id) is None


# --- who was away ---


async def test_a_participant_that_missed_the_transfer_learns_of_it_from_the_new_hub(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        world.network.down.add("c.example")
        await world.a.node.moves.transfer(world.room_id, "b.example")
        await world.ordered_by(world.b, "b.example", Role.HUB)
        world.network.down.add("a.example")  # the old hub is gone for good
        await world.b.node.rooms.send(
            world.room_id, LocalEvent(sender=BOB, type="m.room.name", state_key="", content={"name": "b's"})
        )
        world.network.down.discard("c.example")
        world.b.node.followers.contacted("c.example")
        await world.ordered_by(world.c, "b.example", Role.PARTICIPANT)
        await world.heard("still here", world.carol, world.bob)


async def test_a_stranger_and_a_participant_that_was_not_handed_the_room_do_not_become_its_hub(
    tmp_path: Path,
) -> None:
    async with club(tmp_path) as world:
        last = world.a.node.store.entries(world.room_id, after=0, limit=1000)[-1]
        forged = build_event(
            identity=world.b.node.identity, version=get_version("dev.linearized.1"), room_id=world.room_id,
            type="m.room.name", sender=BOB, content={"name": "mine"}, origin_server_ts=1, state_key="",
            auth_events=orjson.loads(last.pdu)["auth_events"], prev_events=[last.event_id],
        )  # fmt: skip
        for origin in ("b.example", "d.example"):
            with pytest.raises(InvalidInput):
                await world.c.node.rooms.receive_pdu(world.room_id, forged.pdu, origin)
        assert world.row(world.c).hub == "a.example"


async def test_a_new_hub_that_stops_in_between_takes_over_when_it_is_back(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Moves, "due", lambda *_: None)
            transfer = await world.a.node.moves.transfer(world.room_id, "b.example")
            await arrived(world.b, transfer)
            assert world.row(world.b).role is Role.PARTICIPANT
            with pytest.raises(Overloaded):
                await world.b.node.rooms.send(
                    world.room_id, LocalEvent(sender=BOB, type="m.room.topic", state_key="", content={})
                )
            # As after a restart: nothing in memory, everything in the store.
            world.b.node.moves._incoming.clear()
        world.b.node.moves.begin()
        await world.ordered_by(world.b, "b.example", Role.HUB)
        assert world.log(world.b) == world.log(world.a)


async def test_taking_over_waits_for_the_old_hub_to_be_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "RETRY_SECONDS", 0.05)
    async with club(tmp_path) as world:
        real, failures = world.b.node.federation.request, [OutboundError("down")] * 2

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            if path.partition("?")[0].endswith("/log") and world.row(world.b).hub == "b.example" and failures:
                raise failures.pop()
            return await real(server, method, path, **more)

        monkeypatch.setattr(world.b.node.federation, "request", request)
        await world.hand_over()
        assert not failures


async def test_clients_of_the_new_hub_sync_on_without_a_gap_or_a_repetition(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        api = world.bob.api
        since = (await api.sync(since=None, timeout_ms=0))["next_batch"]
        await say(world.alice, world.room_id, "unread")
        unread = world.log(world.a)[-1]
        await arrived(world.b, unread)
        transfer = await world.hand_over()
        await say(world.carol, world.room_id, "after")
        answer = await api.sync(since=since, timeout_ms=0)
        timeline = answer["rooms"]["join"][world.room_id]["timeline"]
        assert [event["event_id"] for event in timeline["events"]] == [
            unread, transfer, world.log(world.b)[-1],
        ]  # fmt: skip
        assert not timeline.get("limited")


# --- what is not handed over ---


async def refused(world: Club, hub: str, code: Reason, words: str) -> None:
    before = world.log(world.a)
    with pytest.raises(Rejected) as caught:
        await world.a.node.moves.transfer(world.room_id, hub)
    assert caught.value.code is code
    assert words in str(caught.value)
    assert world.log(world.a) == before
    assert world.row(world.a).role is Role.HUB


async def test_only_a_participant_in_charge_takes_a_room(tmp_path: Path) -> None:
    async with club(tmp_path, power=0) as world:
        await refused(world, "d.example", Reason.FORBIDDEN, "takes no part")
        with pytest.raises(OutboundError) as caught:
            await world.a.node.moves.transfer(world.room_id, "b.example")
        assert "may take the room over" in str(caught.value)
        assert world.row(world.a).role is Role.HUB
        await world.heard("as before", world.carol, world.alice, world.bob)
        with pytest.raises(Rejected) as unknown:
            await world.a.node.moves.transfer("!unknown:a.example", "b.example")
        assert unknown.value.code is Reason.UNKNOWN_ROOM
        with pytest.raises(Rejected) as elsewhere:
            await world.b.node.moves.transfer(world.room_id, "c.example")
        assert elsewhere.value.code is Reason.WRONG_HUB


async def test_a_user_in_charge_cannot_take_a_room_that_its_hub_has_not_offered(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        after = world.log(world.a)[-1]
        event = LocalEvent(sender=BOB, type="m.room.hub", state_key="", content={"after": after})
        with pytest.raises(Rejected):
            await world.b.node.rooms.send(world.room_id, event)
        assert world.log(world.a)[-1] == after


async def test_a_room_of_another_version_stays_where_it_is(tmp_path: Path) -> None:
    async with shared_room(tmp_path, Network()) as (a, _, _, _):
        room_id = await a.node.rooms.create(creator=ALICE, version="I.1", creation_content={}, initial=[])
        with pytest.raises(Rejected, match="no hub transfers"):
            await a.node.moves.transfer(room_id, "b.example")


async def test_users_who_could_not_follow_keep_a_room_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with club(tmp_path) as world:
        with monkeypatch.context() as patch:
            patch.setattr(
                moves, "joined_providers",
                lambda *_, **__: {"b.example": "linearized", "m.example": "mimi"},
            )  # fmt: skip
            await refused(world, "b.example", Reason.FORBIDDEN, "m.example could not follow")
        with monkeypatch.context() as patch:
            patch.setattr(type(world.a.node), "bridged_domains", frozenset({"c.example"}))
            await refused(world, "b.example", Reason.FORBIDDEN, f"{CAROL} could not follow")


async def test_what_is_sent_while_the_room_is_paused_is_put_off_and_the_room_goes_on_if_nothing_comes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with club(tmp_path) as world:
        real = world.a.node.federation.request
        event = LocalEvent(sender=ALICE, type="m.room.topic", state_key="", content={"topic": "?"})

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            if path.endswith("transfer/accept"):
                with pytest.raises(Overloaded):
                    await world.a.node.rooms.send(world.room_id, event)
                with pytest.raises(Rejected, match="already"):
                    await world.a.node.moves.transfer(world.room_id, "b.example")
                return {"lpdu": {"type": "m.room.topic"}}
            return await real(server, method, path, **more)

        monkeypatch.setattr(world.a.node.federation, "request", request)
        await refused(world, "b.example", Reason.MALFORMED, "something else than a transfer")
        assert await world.a.node.rooms.send(world.room_id, event) == world.log(world.a)[-1]


@pytest.mark.parametrize(
    "spoil", ["after", "size", "missing", "tampered", "short", "shape", "no epoch", "no list"]
)
async def test_a_log_that_does_not_hold_is_not_taken(
    tmp_path: Path, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with club(tmp_path) as world:
        real = world.b.node.federation.request

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            answer = await real(server, method, path, **more)
            if not path.partition("?")[0].endswith("/log"):
                return answer
            pdus, epochs = list(answer["pdus"]), list(answer["epochs"])
            match spoil:
                case "missing" if pdus:
                    del pdus[3], epochs[3]
                case "tampered" if pdus:
                    pdus[3] = {**pdus[3], "content": {**pdus[3]["content"], "x": 1}}
                case "short":
                    epochs = [*epochs, 1]
                case "shape" if pdus:
                    pdus[3] = "?"
                case "no epoch" if pdus:
                    epochs[-1] = True
                case "no list":
                    return {"pdus": {}}
            return {"pdus": pdus, "epochs": epochs}

        monkeypatch.setattr(world.b.node.federation, "request", request)
        asked = world.a.node.federation.request

        async def ask(server: str, method: str, path: str, **more: Any) -> JsonObject:
            if path.endswith("transfer/accept") and spoil in {"after", "size"}:
                more["json"] = {**more["json"], spoil: world.log(world.a)[0] if spoil == "after" else 3}
            return await asked(server, method, path, **more)

        monkeypatch.setattr(world.a.node.federation, "request", ask)
        with pytest.raises(OutboundError):
            await world.a.node.moves.transfer(world.room_id, "b.example")
        assert world.row(world.a).role is Role.HUB
        assert world.row(world.b).role is Role.PARTICIPANT


async def test_a_log_other_than_the_one_that_was_signed_is_not_taken(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        assert await world.b.node.audits.audit(world.room_id) is None
        held = world.b.node.store.audit(world.room_id)
        assert held is not None
        size = read_checkpoint(held.checkpoint).size
        signed = sign_checkpoint(world.a.node.identity, world.room_id, size=size, root=bytes(32))
        await world.b.node.store.put_audit(replace(held, checkpoint=signed.note))
        with pytest.raises(OutboundError, match="another log than the one its hub signed"):
            await world.a.node.moves.transfer(world.room_id, "b.example")
        assert world.b.node.store.staged_head(world.room_id) == 0


async def test_the_log_is_for_nobody_but_who_takes_the_room_over(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        path = f"/_linearized/v1/rooms/{world.room_id.replace('!', '%21').replace(':', '%3A')}"
        ask = world.c.node.federation.request
        for server, method, what, body in (
            ("a.example", "GET", "log?after=0", None),
            ("a.example", "POST", "transfer/prepare", {}),
            ("b.example", "POST", "transfer/prepare", {}),
            ("b.example", "POST", "transfer/accept", {"after": "$x", "size": 1}),
        ):
            with pytest.raises(OutboundError) as caught:
                await ask(server, method, f"{path}/{what}", json=body)
            assert caught.value.errcode == "M_NOT_FOUND"
        ask = world.a.node.federation.request
        for wrong in (
            {},
            {"after": 3, "size": 1},
            {"after": "$x"},
            {"after": "$x", "size": 0},
            {"after": "$x", "size": True},
        ):
            with pytest.raises(OutboundError) as caught:
                await ask("b.example", "POST", f"{path}/transfer/accept", json=wrong)
            assert caught.value.errcode == "M_BAD_JSON"


async def test_a_room_comes_back_to_a_hub_that_had_it(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        await world.hand_over()
        await world.heard("at b's", world.carol, world.alice, world.bob)
        assert await world.b.node.moves.transfer(world.room_id, "a.example") == world.log(world.b)[-1]
        await world.ordered_by(world.a, "a.example", Role.HUB)
        await world.ordered_by(world.c, "a.example", Role.PARTICIPANT)
        await world.heard("home again", world.carol, world.alice, world.bob)
        assert world.log(world.a) == world.log(world.b)


async def test_a_new_hub_that_never_comes_to_the_end_of_the_log_does_not_get_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "MAX_ROUNDS", 3)
    monkeypatch.setattr(moves, "CLOSE_ENOUGH", 0)
    async with club(tmp_path) as world:
        real, asked = world.a.node.federation.request, 0

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            nonlocal asked
            if path.endswith("transfer/prepare"):
                asked += 1
                return {"staged": 1 if asked == 1 else "many"}
            return await real(server, method, path, **more)

        monkeypatch.setattr(world.a.node.federation, "request", request)
        await refused(world, "b.example", Reason.FORBIDDEN, "does not come to the end")
        assert asked == 3


async def test_a_log_is_copied_in_pages_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_face, "MAX_PAGE_BYTES", 1)  # then a page is one entry
    async with club(tmp_path) as world:
        await world.hand_over()
        asked = [path for _, _, _, path in world.network.log if "/log?" in path]
        assert len(asked) >= len(world.log(world.b))
        assert world.log(world.a) == world.log(world.b)


async def test_a_copy_that_broke_off_is_checked_again_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with club(tmp_path) as world:
        store = world.b.node.store
        real, failures = store.stage_entries, [StoreError("the disk is full")]

        async def stage(room_id: str, entries: Any) -> None:
            if failures:
                raise failures.pop()
            await real(room_id, entries)

        monkeypatch.setattr(store, "stage_entries", stage)
        with pytest.raises(OutboundError):
            await world.a.node.moves.transfer(world.room_id, "b.example")
        await world.hand_over()
        assert world.log(world.a) == world.log(world.b)


async def test_what_was_staged_is_believed_no_more_than_what_is_sent(tmp_path: Path) -> None:
    async with club(tmp_path) as world:
        first = world.a.node.store.entries(world.room_id, after=0, limit=1)[0]
        await world.b.node.store.stage_entries(world.room_id, [replace(first, sender="@eve:e.example")])
        with pytest.raises(OutboundError, match="does not hold"):
            await world.a.node.moves.transfer(world.room_id, "b.example")
        assert world.b.node.store.staged_head(world.room_id) == 0
        await world.hand_over()


async def test_a_hub_that_was_caught_hands_nothing_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with club(tmp_path) as world:
        world.b.node.audits._stopped.add((world.room_id, "a.example"))
        with pytest.raises(OutboundError, match="two histories"):
            await world.a.node.moves.transfer(world.room_id, "b.example")
        with pytest.raises(Rejected, match="two histories"):
            await world.b.node.rooms.update(world.room_id, bundle=b"", user_id=BOB, initial_group=None)
