"""One room with followers of every kind: notified, fetching, and sent fan-out requests."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import trio

from linearized.client import DecryptedMessage, Joined
from linearized.config import ProviderConfig
from linearized.server.franking import FRANK
from linearized.store.base import EntryRow
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import bodies, encrypted_room, received, say, signed_in

HUB = "a.example"
WAYS = {"b.example": "push", "c.example": "pull", "d.example": "fanout-request"}


def log(server: Server, room_id: str) -> list[EntryRow]:
    return server.node.store.entries(room_id, after=0, limit=100)


async def test_followers_of_every_kind_have_the_same_log_byte_for_byte(tmp_path: Path) -> None:
    network = Network()
    names = (HUB, *WAYS)
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_server(HUB, tmp_path, network, peers=names))
        alice = await stack.enter_async_context(signed_in(hub, await hub.user("alice")))
        followers: dict[str, Server] = {}
        sessions = {}
        for name, way in WAYS.items():
            followers[name] = await stack.enter_async_context(
                running_server(
                    name, tmp_path, network, peers=names, providers={HUB: ProviderConfig(delivery=way)}
                )
            )
            user_id = await followers[name].user("bob")
            sessions[name] = await stack.enter_async_context(signed_in(followers[name], user_id))
        room_id = await encrypted_room(alice)
        await alice.groups.invite(room_id, [f"@bob:{name}" for name in WAYS])
        for session in sessions.values():
            await received(session, Joined)
        with trio.fail_after(20):
            # The fetching one is known as such once it may be, and the third when its tokens have come.
            while not (  # noqa: ASYNC110 - other servers' tasks, of which nothing here hears
                hub.node.followers.pulls.includes("c.example")
                and hub.node.store.fanout_tokens(room_id, "d.example")
            ):
                await trio.sleep(0.02)
        network.log.clear()
        for number in range(5):
            await say(alice, room_id, f"message {number}")
        await alice.groups.update_keys(room_id)
        await say(sessions["d.example"], room_id, "from afar")
        await say(alice, room_id, "the end")
        texts = [*(f"message {number}" for number in range(5)), "from afar", "the end"]
        for name, session in sessions.items():
            expected = [body for body in texts if name != "d.example" or body != "from afar"]
            assert bodies(await received(session, DecryptedMessage, len(expected))) == expected
        logs = [log(server, room_id) for server in followers.values()]
        assert [entry.type for entry in logs[0]].count("m.mls.commit") == 1
        assert [entry.type for entry in logs[0]].count("m.room.encrypted") == len(texts)
        assert logs[0] == logs[1] == logs[2]
        assert all(FRANK.encode() in entry.pdu for entry in logs[0] if entry.type == "m.room.encrypted")
        # Each by its own way.
        sent = {
            (origin, target, path.split("/")[3]) for origin, target, _, path in network.log if "/v1/" in path
        }
        assert (HUB, "b.example", "notify") in sent
        assert ("c.example", HUB, "follow") in {
            (origin, target, name.partition("?")[0]) for origin, target, name in sent
        }
        assert (HUB, "d.example", "fanoutRequest") in sent
        assert not sent & {(HUB, "c.example", "notify"), (HUB, "d.example", "notify")}
