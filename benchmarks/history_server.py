"""The server of ``bench_history``: one room of so many events, and the client API on a loopback port.

A process of its own, so that what it costs is not counted as the client's. It prints one JSON object once it
listens, and ends with its standard input.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import trio

from linearized.config import Address, StoreConfig
from linearized.protocol.base64 import encode_base64
from linearized.protocol.build import build_event
from linearized.protocol.canonical import JsonObject, encode_checked
from linearized.protocol.events import Event
from linearized.protocol.hashing import content_hash, event_id_of, signed_bytes
from linearized.protocol.signing import ServerIdentity
from linearized.protocol.versions import get_version
from linearized.provider_files import ProviderPlan, create_provider
from linearized.server import run, telemetry
from linearized.server.app import build_app
from linearized.server.clients.passwords import hash_password
from linearized.server.listener import Binding, serve_bindings
from linearized.server.node import Node
from linearized.server.opening import open_node
from linearized.server.rows import entry_row
from linearized.store.base import EntryRow, Role, RoomAppend, RoomRow, UserRow

NAME = "a.example"
ROOM = "!bench:a.example"
USER = "@alice:a.example"
PASSWORD = "password of the benchmark"  # noqa: S105 - it guards nothing
VERSION = "I.1"
BEGAN = 1_700_000_000_000  # milliseconds since the epoch; an event a millisecond
AT_ONCE = 4096  # entries in one append: a few megabytes


def entries(events: int, identity: ServerIdentity) -> Iterator[EntryRow]:
    """A room of just so many entries: made, joined, then messages.

    The hub itself would take three times as long to make them, and all of it is checked by who reads it.
    """
    version = get_version(VERSION)
    opening: list[Event] = []
    for kind, state_key, content in (
        ("m.room.create", "", {"room_version": VERSION}),
        ("m.room.member", USER, {"membership": "join"}),
    ):
        made = [event.event_id for event in opening]
        event = build_event(
            identity=identity,
            version=version,
            room_id=ROOM,
            type=kind,
            sender=USER,
            content=content,
            origin_server_ts=BEGAN,
            auth_events=made,
            prev_events=made[-1:],
            state_key=state_key,
        )
        opening.append(event)
        yield entry_row(event, seq=len(opening), epoch=None)
    auth_events = [event.event_id for event in opening]
    previous = auth_events[-1]
    for seq in range(len(opening) + 1, events + 1):
        body = f"message {seq}: what one says in a sentence or two"
        pdu: JsonObject = {
            "room_id": ROOM,
            "type": "m.room.message",
            "sender": USER,
            "content": {"msgtype": "m.text", "body": body},
            "origin_server_ts": BEGAN + seq,
            "auth_events": auth_events,
            "prev_events": [previous],
        }
        pdu["hashes"] = {"sha256": content_hash(pdu, version, plain=True)}
        signed = signed_bytes(pdu, version, plain=True)
        signature = encode_base64(identity.key.sign(signed))
        pdu["signatures"] = {NAME: {identity.key.key_id: signature}}
        previous = event_id_of(signed)
        yield EntryRow(
            room_id=ROOM,
            seq=seq,
            event_id=previous,
            type="m.room.message",
            state_key=None,
            sender=USER,
            origin_server_ts=BEGAN + seq,
            epoch=None,
            pdu=encode_checked(pdu, plain=True),
        )


async def fill(node: Node, events: int) -> None:
    """Make the room in the store, before anybody asks for it."""
    room = RoomRow(room_id=ROOM, version=VERSION, role=Role.HUB, hub=NAME, head_seq=0, epoch=None)
    made = entries(events, node.identity)
    while batch := tuple(islice(made, AT_ONCE)):
        await node.store.append(RoomAppend(room_id=ROOM, entries=batch, room=room))


async def main(directory: Path, events: int) -> None:
    telemetry.configure(logging.ERROR)
    config = create_provider(directory, ProviderPlan(server_name=NAME, dev_ca=directory / "ca", peers={}))
    # Making the room is not what is measured.
    config = replace(config, store=StoreConfig(synchronous="OFF"))
    async with open_node(config) as node:
        began = time.monotonic()
        await fill(node, events)
        row = UserRow(user_id=USER, password_hash=hash_password(PASSWORD, salt=b"salt"), created_ts=0)
        await node.store.put_user(row)
        stop = trio.Event()
        binding = Binding(address=Address(host="127.0.0.1", port=0), app=build_app(run.plain_routes(node)))
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(partial(serve_bindings, [binding], stop=stop, grace_seconds=5))
            room = node.store.room(ROOM)
            assert room is not None
            assert room.head_seq == events
            say({"port": address.port, "fill_s": time.monotonic() - began, "cpu_s": cpu_seconds()})
            await trio.to_thread.run_sync(sys.stdin.read)
            say({"cpu_s": cpu_seconds()})
            stop.set()


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def say(value: dict[str, float]) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
