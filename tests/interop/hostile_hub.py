"""A hub that keeps two histories of a room and shows each participant one of them.

It is two servers of ours with the same name and the same key, which had one history until the second was
copied from the first. Participant ``b.example`` is shown the first, ``c.example`` the second.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import trio
import trio.testing

from linearized.room.submissions import LocalEvent
from linearized.server.auditing import Auditor
from linearized.store.base import UserRow
from tests.server.support import Network, Server, running_server

ALICE = "@alice:a.example"
BOB = "@bob:b.example"
CAROL = "@carol:c.example"
USERS = {"a.example": ALICE, "b.example": BOB, "c.example": CAROL}
PATIENCE = 20


@dataclass
class Deceived:
    """The two faces of ``a.example``, and those it shows them to."""

    first: Server
    second: Server
    b: Server
    c: Server
    network: Network
    shadow: Network
    room_id: str

    def show_b_the_second(self) -> None:
        """From now on ``b.example`` sees what ``c.example`` is shown."""
        self.shadow.apps["b.example"] = self.network.apps["b.example"]
        self.network.views["b.example", "a.example"] = self.shadow.apps["a.example"]

    async def say(self, face: Server, body: str) -> str:
        event = LocalEvent(sender=ALICE, type="m.room.message", content={"body": body})
        return await face.node.rooms.send(self.room_id, event)


async def arrived(server: Server, event_id: str) -> None:
    """Wait until a server has an event."""
    with trio.fail_after(PATIENCE):
        while True:
            ticket = server.node.notifier.ticket(USERS[server.name])
            if server.node.store.entry_by_id(event_id) is not None:
                return
            await ticket.wait()


async def delivered(hub: Server, room_id: str) -> None:
    """Wait until a room's followers have answered for all of it, so that nothing of it is on its way."""
    row = hub.node.store.room(room_id)
    assert row is not None
    with trio.fail_after(PATIENCE):
        while any(
            hub.node.followers.progress.of(follower).cursor < row.head_seq
            for follower in hub.node.store.followers(room_id)
        ):
            await trio.testing.wait_all_tasks_blocked(0.01)


@asynccontextmanager
async def shared_room(directory: Path, network: Network) -> AsyncIterator[tuple[Server, Server, Server, str]]:
    """Three servers, and a room of the first that the others have joined and have up to its head."""
    async with AsyncExitStack() as stack:
        a, b, c = [
            await stack.enter_async_context(running_server(name, directory, network)) for name in USERS
        ]
        for server in (a, b, c):
            await server.node.store.put_user(
                UserRow(user_id=USERS[server.name], password_hash=None, created_ts=0)
            )
        public = LocalEvent(
            sender=ALICE, type="m.room.join_rules", state_key="", content={"join_rule": "public"}
        )
        room_id = await a.node.rooms.create(
            creator=ALICE, version="dev.linearized.1", creation_content={}, initial=[public]
        )
        for server in (b, c):
            await server.node.rooms.join_remote(room_id, user_id=USERS[server.name], via=["a.example"])
        await delivered(a, room_id)
        yield a, b, c, room_id


@asynccontextmanager
async def two_faced(directory: Path) -> AsyncIterator[Deceived]:
    """The hostile hub and its two participants, at the moment before the histories part."""
    async with shared_room(directory, Network()) as (_, b, c, room_id):
        for server in (b, c):
            assert await server.node.audits.audit(room_id) is None
    shutil.copytree(directory / "a.example", directory / "copy" / "a.example")
    network, shadow = Network(), Network()
    # Audits are the tests' to begin: what a participant holds when the histories part decides what it can
    # prove.
    with patch.object(Auditor, "begin"):
        async with _faces(directory, network, shadow, room_id) as world:
            yield world


@asynccontextmanager
async def _faces(directory: Path, network: Network, shadow: Network, room_id: str) -> AsyncIterator[Deceived]:
    async with (
        running_server("a.example", directory, network) as first,
        running_server("a.example", directory / "copy", shadow) as second,
        running_server("b.example", directory, network) as b,
        running_server("c.example", directory, network) as c,
    ):
        network.views["a.example", "c.example"] = None  # the first face tells it nothing
        shadow.apps["c.example"] = network.apps["c.example"]
        network.views["c.example", "a.example"] = shadow.apps["a.example"]
        yield Deceived(first, second, b, c, network, shadow, room_id)
