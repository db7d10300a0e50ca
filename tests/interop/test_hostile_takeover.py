"""Takeovers that nobody should follow: by servers without power, without agreement, or that drop entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from linearized.exceptions import InvalidInput
from linearized.protocol.authorization import select_auth_events
from linearized.protocol.build import build_event
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.versions import get_version
from linearized.room.submissions import LocalEvent, Rejected
from linearized.server import moves, takeovers
from linearized.server.exchange import OutboundError
from linearized.server.takeovers import Takeovers
from linearized.store.base import Role
from tests.interop.handover_support import PEERS, club
from tests.interop.hostile_hub import ALICE, BOB, CAROL, USERS, arrived
from tests.interop.takeover_support import Bereft, bereft, named
from tests.server.support import Server, running_server


def forged(world: Bereft, taker: Server, *, after: str | None = None) -> Event:
    """A takeover that a server writes without asking anybody."""
    after = after or world.log(taker)[-1]
    content: JsonObject = {"after": after, "takeover": {"hub": "a.example", "size": 9, "root": "cm9vdA"}}
    version, sender = get_version("dev.linearized.1"), USERS[taker.name]
    selected = select_auth_events(
        type="m.room.hub", state_key="", sender=sender, content=content,
        state=taker.node.rooms.state(world.room_id), version=version,
    )  # fmt: skip
    return build_event(
        identity=taker.node.identity, version=version, room_id=world.room_id, type="m.room.hub",
        sender=sender, content=content, origin_server_ts=1, auth_events=selected, prev_events=[after],
        state_key="",
    )  # fmt: skip


async def shown(world: Bereft, event: Event, taker: Server) -> None:
    """Show c.example a takeover, as its hub-to-be would; it is refused and nothing has changed."""
    before = world.log(world.c)
    with pytest.raises((InvalidInput, OutboundError)):
        await world.c.node.rooms.receive_pdu(world.room_id, event.pdu, taker.name)
    assert world.log(world.c) == before
    assert world.row(world.c).hub == "a.example"


async def test_a_takeover_binds_nobody_who_has_not_agreed(tmp_path: Path) -> None:
    async with bereft(tmp_path) as world:
        await shown(world, forged(world, world.b), world.b)
        world.a_is_back()
        event_id = await named(world.a, world.room_id, ALICE, "still here")
        await arrived(world.c, event_id)


async def test_a_taker_without_power_is_not_followed_even_by_who_agreed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bereft(tmp_path, power=0, copies=False) as world:
        await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        await shown(world, forged(world, world.b), world.b)
        path = f"/_linearized/v1/rooms/{world.room_id.replace('!', '%21').replace(':', '%3A')}/takeover"
        said = {"hub": "a.example", "size": 9, "root": "cm9vdA"}
        for sender in (BOB, CAROL, "@nobody:b.example"):
            body = {"sender": sender, "after": world.log(world.b)[-1], "takeover": said}
            with pytest.raises(OutboundError, match=r"No such user of b\.example"):
                await world.b.node.federation.request("c.example", "POST", path, json=body)


async def test_a_taker_that_drops_entries_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bereft(tmp_path, only_c="the last words") as world:
        await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)

        async def nothing(*_: object) -> None:
            return None

        with monkeypatch.context() as patch:
            patch.setattr(Takeovers, "_collect", nothing)
            with pytest.raises(Rejected, match="This server has entries behind that one"):
                await world.b.node.takeovers.take(world.room_id, hub_is_gone=False)
        await shown(world, forged(world, world.b), world.b)
        # An honest one is.
        last = world.log(world.c)[-1]
        await world.b.node.takeovers.take(world.room_id, hub_is_gone=False)
        await world.ordered_by(world.c, "b.example", Role.PARTICIPANT)
        assert last in world.log(world.b)


async def test_a_taker_of_another_log_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bereft(tmp_path) as world:
        await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        real = Takeovers._proposal

        def other(self: Takeovers, *args: Any) -> JsonObject:
            made = real(self, *args)
            return {**made, "takeover": {**made["takeover"], "root": "cm9vdA"}}

        monkeypatch.setattr(Takeovers, "_proposal", other)
        with pytest.raises(Rejected, match="another log than the takeover goes on from"):
            await world.b.node.takeovers.take(world.room_id, hub_is_gone=False)


async def test_of_two_rivals_the_one_that_most_agreed_to_gets_the_room(tmp_path: Path) -> None:
    async with bereft(tmp_path, voters_of_two=False) as world:
        d = world.network_servers["d.example"]
        await d.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        # c.example wants the room for itself. It may not, and were it put in charge, one of three is too few.
        await world.c.node.takeover_consents.agree(world.row(world.c), "c.example")
        with pytest.raises(Rejected):
            await world.c.node.takeovers.take(world.room_id, hub_is_gone=False)
        await world.b.node.takeovers.take(world.room_id, hub_is_gone=False)
        with pytest.raises(InvalidInput):
            await d.node.rooms.receive_pdu(world.room_id, forged(world, world.c).pdu, "c.example")
        # What c.example agreed to for itself keeps it from following until it is taken back.
        assert world.row(world.c).hub == "a.example"
        await world.c.node.takeovers.withdraw(world.room_id)
        await world.c.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        assert world.row(world.c).hub == "b.example"
        assert world.log(world.c)[-1] == world.log(world.b)[-1]


async def test_rivals_of_which_none_has_most_get_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bereft(tmp_path) as world:
        monkeypatch.setattr(moves, "takers", lambda _state, server, _version: [USERS[server]])
        monkeypatch.setattr(takeovers, "takers", lambda _state, server, _version: [USERS[server]])
        await world.c.node.takeover_consents.agree(world.row(world.c), "c.example")
        with pytest.raises(Rejected, match="1 of 2 servers"):
            await world.b.node.takeovers.take(world.room_id, hub_is_gone=False)
        assert world.row(world.b).hub == world.row(world.c).hub == "a.example"


async def test_nonsense_for_the_end_of_a_log_holds_up_no_takeover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bereft(tmp_path, voters_of_two=False) as world:
        real = world.b.node.federation.request

        async def request(server: str, method: str, path: str, **more: Any) -> JsonObject:
            if "/tail" in path and server == "d.example":
                return {"pdus": ["?"]}
            if "/tail" in path and server == "c.example":
                return {"pdus": [{"type": "m.room.name", "content": {}}]}
            return await real(server, method, path, **more)

        monkeypatch.setattr(world.b.node.federation, "request", request)
        await world.agreed()


async def test_who_joins_after_a_takeover_needs_its_operators_word(tmp_path: Path) -> None:
    async with (
        bereft(tmp_path) as world,
        running_server("d.example", tmp_path, world.network, peers=PEERS) as d,
    ):
        await world.agreed()
        public = LocalEvent(
            sender=BOB, type="m.room.join_rules", state_key="", content={"join_rule": "public"}
        )
        await world.b.node.rooms.send(world.room_id, public)
        dora = await d.user("dora")
        # The create event is signed by the old hub: its keys come from it or, when it is gone, from a notary.
        world.network.down.discard("a.example")
        key = world.a.node.identity.key
        assert await d.node.keys.keys_for("a.example", [key.key_id]) == {key.key_id: key.verify_key}
        world.network.down.add("a.example")
        for trusted in (None, "c.example"):
            if trusted is not None:
                await d.node.takeovers.accept(world.room_id, trusted, hub_is_gone=False)
            with pytest.raises(OutboundError, match="operator has not agreed"):
                await world.b.node.rooms.invite(world.room_id, sender=BOB, target=dora)
        with pytest.raises(Rejected, match="operator has not agreed"):
            await d.node.rooms.join_remote(world.room_id, user_id=await d.user("dina"), via=["b.example"])
        await d.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        await d.node.takeovers.accept(world.room_id, "b.example", hub_is_gone=False)
        await world.b.node.rooms.invite(world.room_id, sender=BOB, target=dora)
        await d.node.rooms.join_remote(world.room_id, user_id=dora, via=["b.example"])
        row = d.node.store.room(world.room_id)
        assert row is not None
        assert row.hub == "b.example"


async def test_a_live_room_is_not_taken_by_a_server_in_charge(tmp_path: Path) -> None:
    async with club(tmp_path) as found:
        world = Bereft(**vars(found))
        event = forged(world, world.b)
        for server in (world.a, world.c):
            with pytest.raises(InvalidInput):
                await server.node.rooms.receive_pdu(world.room_id, event.pdu, "c.example")
        await world.heard("as before", world.carol, world.alice, world.bob)
