"""Two servers of ours in one room by Linearized Matrix: join, both directions, outage, catching up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import orjson
import trio

from linearized.room.submissions import LocalEvent
from linearized.server.clients.auth import token_hash
from linearized.server.node import Node
from linearized.store.base import DeviceRow
from tests.server.support import Network, Server, running_server

from .support import ALICE, BOB, DEV, account, room

PATIENCE = 20


@asynccontextmanager
async def pair(
    directory: Path, *, alice_account: bool = True
) -> AsyncIterator[tuple[Server, Server, Network, str]]:
    """a.example with a room of Alice's, and b.example whose Bob has joined it."""
    network = Network()
    async with (
        running_server("a.example", directory, network) as a,
        running_server("b.example", directory, network) as b,
    ):
        if alice_account:
            await account(a, ALICE)
        await account(b, BOB)
        room_id = await room(a)
        await b.node.rooms.join_remote(room_id, user_id=BOB, via=["a.example"])
        yield a, b, network, room_id


async def say(node: Node, room_id: str, sender: str, text: str) -> str:
    event = LocalEvent(sender=sender, type="org.example.note", content={"text": text})
    return await node.rooms.send(room_id, event)


def notes(node: Node, room_id: str) -> list[str]:
    entries = node.store.entries(room_id, after=0, limit=10_000)
    return [orjson.loads(e.pdu)["content"]["text"] for e in entries if e.type == "org.example.note"]


async def until_noted(node: Node, room_id: str, expected: list[str]) -> None:
    with trio.fail_after(PATIENCE):
        while notes(node, room_id) != expected:
            ticket = node.notifier.ticket(BOB)
            if notes(node, room_id) != expected:
                await node.notifier.wait(ticket, 1)


async def test_events_flow_both_ways_and_both_logs_agree(tmp_path: Path) -> None:
    async with pair(tmp_path) as (a, b, _, room_id):
        await say(a.node, room_id, ALICE, "one")
        sent = await say(b.node, room_id, BOB, "two")
        await say(a.node, room_id, ALICE, "three")
        await until_noted(b.node, room_id, ["one", "two", "three"])
        assert notes(a.node, room_id) == ["one", "two", "three"]
        ours, theirs = a.node.store.entry_by_id(sent), b.node.store.entry_by_id(sent)
        assert ours is not None
        assert theirs is not None
        assert ours.pdu == theirs.pdu
        keys = {key: event.event_id for key, event in a.node.rooms.state(room_id).items()}
        assert {key: event.event_id for key, event in b.node.rooms.state(room_id).items()} == keys


async def test_many_senders_at_once_are_not_turned_away(tmp_path: Path) -> None:
    async with pair(tmp_path) as (a, b, _, room_id):
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(say, b.node, room_id, BOB, str(number))
        assert sorted(notes(a.node, room_id)) == [str(number) for number in range(10)]
        await until_noted(b.node, room_id, notes(a.node, room_id))


async def test_what_was_said_while_a_server_was_away_reaches_it_afterwards(tmp_path: Path) -> None:
    async with pair(tmp_path) as (a, b, network, room_id):
        network.down.add("b.example")
        said = [f"meanwhile {number}" for number in range(120)]
        for text in said:
            await say(a.node, room_id, ALICE, text)
        network.down.clear()
        a.node.followers.contacted("b.example")
        await until_noted(b.node, room_id, said)


async def test_a_user_of_a_participant_reads_the_state_that_a_bridge_imported(tmp_path: Path) -> None:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
    ):
        await account(b, BOB)
        room_id = await room(a, version=DEV)
        carol = "@carol:matrix.example"
        wanted = [
            ("m.room.member", carol, {"membership": "join"}),
            ("m.room.name", "", {"name": "Tea"}),
            ("m.room.history_visibility", "", {"history_visibility": "joined"}),
        ]
        events = [
            (
                f"${kind}",
                LocalEvent(
                    sender=carol if kind != "m.room.history_visibility" else ALICE,
                    type=kind,
                    state_key=key,
                    content=content,
                    origin_server_ts=5,
                    provenance={
                        "protocol": "matrix",
                        "provider": "matrix.example",
                        "event_id": f"${kind}",
                        "imported": True,
                    }
                    if kind != "m.room.history_visibility"
                    else None,
                ),
            )
            for kind, key, content in wanted
        ]
        outcomes = await a.node.rooms.import_events(room_id, events)
        assert all(isinstance(outcome, str) for outcome in outcomes.values())
        await b.node.rooms.join_remote(room_id, user_id=BOB, via=["a.example"])
        await b.node.store.put_device(
            DeviceRow(user_id=BOB, device_id="PHONE", display_name=None, token_hash=token_hash("secret"))
        )
        async with httpx.AsyncClient(transport=network.transport("b.example")) as client:
            answer = await client.get(
                f"https://b.example/_matrix/client/v3/rooms/{quote(room_id, safe='')}/state",
                headers={"Authorization": "Bearer secret"},
            )
        assert answer.status_code == 200
        state = {(event["type"], event["state_key"]): event["content"] for event in answer.json()}
        assert {(kind, key): state[kind, key] for kind, key, _ in wanted} == {
            (kind, key): content for kind, key, content in wanted
        }
