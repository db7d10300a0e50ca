"""A group whose commits are larger than an event: every kind of follower takes them, and the log verifies."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import openmls
import orjson

from linearized.client import DecryptedMessage, Joined, Session
from linearized.client.bulk import pull_history
from linearized.client.offline import HistoryStore
from linearized.client.verify import server_keys
from linearized.config import ProviderConfig
from linearized.protocol.base64 import decode_base64
from linearized.protocol.events import MAX_EVENT_BYTES
from linearized.room.admission import ALGORITHM, COMMIT, COMMIT_PART
from linearized.room_check import check_room
from linearized.server.mls import OpenMls
from linearized.store.base import EntryRow, Role
from tests.room.support import LIFETIME, Member, handshake
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import bodies, received, say, signed_in

A, B, C, D = NAMES = ("a.example", "b.example", "c.example", "d.example")
ALICE, CROWD, BOB, CATHY, DORA = (
    "@alice:a.example",
    "@crowd:a.example",
    "@bob:b.example",
    "@cathy:c.example",
    "@dora:d.example",
)
# c.example fetches, b.example is notified, d.example takes part by Linearized Matrix.
SETTINGS = {C: {A: ProviderConfig(delivery="pull")}}
# Devices in the group that never commit: of so many, one commit's path has more than 64 KiB.
DEVICES, AT_ONCE = 600, 200


@dataclass
class World:
    """The servers, and a session of one user on each of them."""

    servers: dict[str, Server]
    sessions: dict[str, Session]
    room_id: str = ""

    def log(self, name: str) -> list[EntryRow]:
        return self.servers[name].node.store.entries(self.room_id, after=0, limit=10_000)


@asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    network = Network()
    async with AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(
                running_server(name, directory, network, peers=NAMES, providers=SETTINGS.get(name))
            )
            for name in NAMES
        }
        sessions = {}
        for user_id in (ALICE, BOB, CATHY, DORA):
            localpart, _, name = user_id[1:].partition(":")
            await servers[name].user(localpart)
            sessions[user_id] = await stack.enter_async_context(signed_in(servers[name], user_id))
        yield World(servers, sessions)


async def crowd(world: World) -> Member:
    """A user of the hub comes into the room with one device, which adds all the others."""
    hub, alice = world.servers[A], world.sessions[ALICE]
    await hub.user("crowd")
    async with signed_in(hub, CROWD) as session:
        await alice.groups.invite(world.room_id, [CROWD])
        await received(session, Joined)
        first = Member(CROWD, session.device.owner.device_id)
        first.client, first.group = session.device.client, session.device.group(world.room_id)
        for start in range(0, DEVICES, AT_ONCE):
            devices = [Member(CROWD, f"D{start + number}") for number in range(AT_ONCE)]
            now = hub.node.clock() // 1000
            packages = [device.client.key_package(now=now, lifetime=LIFETIME) for device in devices]
            added = first.joined().commit(add=packages)
            await hub.node.rooms.submit(world.room_id, handshake(first, added))
            first.accept()
    return first


async def test_commits_larger_than_an_event_reach_everybody(tmp_path: Path) -> None:
    async with world(tmp_path) as found:
        alice, bob, cathy, dora = (found.sessions[user] for user in (ALICE, BOB, CATHY, DORA))
        hub = found.servers[A]
        found.room_id = room_id = await alice.api.create_room(
            creation_content={"encryption": {"algorithm": ALGORITHM}}, preset="private_chat"
        )
        await alice.groups.create(room_id)
        await hub.node.rooms.invite(room_id, sender=ALICE, target=DORA)
        await found.servers[D].node.rooms.join_remote(room_id, user_id=DORA, via=[A])
        await alice.groups.invite(room_id, [BOB, CATHY, DORA])
        for session in (bob, cathy, dora):
            await received(session, Joined)
        await crowd(found)
        # By a client of the hub's, and by clients of both kinds of participant.
        for session in (alice, bob, dora):
            await session.groups.update_keys(room_id)
        await say(dora, room_id, "Hello to all")
        for session in (alice, bob, cathy):
            assert bodies(await received(session, DecryptedMessage)) == ["Hello to all"]
        epochs = {session.device.epoch(room_id) for session in (alice, bob, cathy, dora)}
        row = hub.node.rooms.row(room_id)
        assert row is not None
        assert epochs == {row.epoch}

        log = found.log(A)
        counts = Counter(entry.type for entry in log)
        assert counts[COMMIT_PART] >= 2 * 6
        assert max(len(entry.pdu) for entry in log) <= MAX_EVENT_BYTES
        commits = [entry for entry in log if entry.type == COMMIT]
        assert [entry.sender for entry in commits[-3:]] == [ALICE, BOB, DORA]
        # The participant has the same log from its join on, byte for byte; a follower has each commit as one
        # message.
        (join,) = (entry.seq for entry in log if entry.state_key == DORA and b'"join"' in entry.pdu)
        assert [entry.pdu for entry in found.log(D)][join - 1 - len(log) :] == [
            entry.pdu for entry in log[join - 1 :]
        ]
        participant = found.servers[D].node.rooms.row(room_id)
        assert participant is not None
        assert (participant.role, participant.epoch) == (Role.PARTICIPANT, row.epoch)
        for name in (B, C):
            sizes = [len(message_of(entry)) for entry in found.log(name) if entry.type == COMMIT]
            assert len(sizes) == DEVICES // AT_ONCE + 4
            assert max(sizes) > MAX_EVENT_BYTES
        await checked(found, tmp_path / "history.sqlite")


def message_of(entry: EntryRow) -> bytes:
    message = decode_base64(orjson.loads(entry.pdu)["content"]["message"])
    assert openmls.inspect_message(message).content_type == "commit"
    return message


async def checked(found: World, directory: Path) -> None:
    """The operator's check and a client's own check of the whole log."""
    hub, alice = found.servers[A], found.sessions[ALICE]
    key = hub.node.identity.key
    keys = {(A, key.key_id): key.verify_key}
    for name in (B, C, D):
        other = found.servers[name].node.identity.key
        keys[name, other.key_id] = other.verify_key
    report = check_room(
        hub.node.store, found.room_id, keys=lambda *name: keys.get(name), mls=OpenMls(hub.node.clock)
    )
    assert report.leaves == DEVICES + 5
    assert server_keys(await alice.api.server_keys()).items() <= keys.items()
    with HistoryStore(directory) as store:
        history = await pull_history(alice.api, found.room_id, store, keys=lambda *name: keys.get(name))
    assert (history.commits, history.epoch) == (report.commits, report.epoch)
