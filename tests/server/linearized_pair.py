"""Two servers of ours in one room by Linearized Matrix: a.example orders it, b.example takes part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import trio
import trio.testing

from linearized.protocol.build import build_event
from linearized.protocol.canonical import JsonObject
from linearized.protocol.versions import get_version
from linearized.room.submissions import LocalEvent
from linearized.store.base import EntryRow, RoomRow, UserRow
from tests.server.support import Network, Server, running_server

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


def changed(pdu: JsonObject, **fields: Any) -> JsonObject:
    return {**pdu, **fields}
