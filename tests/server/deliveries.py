"""A store with rooms, its followers, and the other providers as a test has them answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import orjson
import trio
import trio.testing

from linearized.mimi.messages import decode_fanout_stream, message_role
from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject
from linearized.room.submissions import Accepted
from linearized.server.cursors import LINEARIZED, MIMI
from linearized.server.followers import Followers
from linearized.server.outbound import FederationClient
from linearized.server.providers.client import Answer, ProviderClient
from linearized.server.pull_followers import PullFollowers
from linearized.server.welcomes import PROVIDER_TYPE, provider_address
from linearized.store.base import EntryRow, FollowerRow, NewToDevice, Role, RoomAppend, RoomRow
from linearized.store.sqlite import SqliteStore
from tests.room.support import BOB, NOW, ROOM, A, Member, grouped_room
from tests.server.test_fanout import rows

OTHER = "!other:a.example"


class Peer:
    """The other providers: records what they are sent, when, and answers as told."""

    def __init__(self) -> None:
        self.notified: list[tuple[float, str, str, bytes]] = []
        self.sent: list[tuple[float, str, str, list[JsonObject]]] = []
        self.answers: list[Answer | Exception] = []
        self.refused_rooms: set[str] = set()
        self.send_answer: JsonObject | Exception = {"failed_pdus": {}}
        self.gate: trio.Event | None = None

    async def post(
        self, provider: str, endpoint: str, target: str, body: bytes, *, in_turn: bool = False
    ) -> Answer:
        assert in_turn
        assert endpoint == "notify"
        self.notified.append((trio.current_time(), provider, target, body))
        if self.gate is not None:
            await self.gate.wait()
        await trio.lowlevel.checkpoint()
        if target in self.refused_rooms:
            return Answer(403, b"")
        answer = self.answers.pop(0) if self.answers else Answer(201, b"")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def transaction(self, server: str, path: str, body: bytes) -> JsonObject:
        self.sent.append((trio.current_time(), server, path.rpartition("/")[2], orjson.loads(body)["pdus"]))
        await trio.lowlevel.checkpoint()
        if isinstance(self.send_answer, Exception):
            raise self.send_answer
        return self.send_answer

    @property
    def times(self) -> list[float]:
        return [time for time, *_ in self.notified]


class Setting:
    def __init__(self, store: SqliteStore, peer: Peer, followers: Followers) -> None:
        self.store = store
        self.peer = peer
        self.followers = followers
        self._seq: dict[str, int] = {}

    async def room(self, *follower: FollowerRow, room_id: str = ROOM) -> None:
        row = RoomRow(room_id=room_id, version="I.1", role=Role.HUB, hub="a.example", head_seq=0, epoch=None)
        await self.store.append(RoomAppend(room_id=room_id, room=row, followers=follower))

    async def append(self, count: int = 1, *, room_id: str = ROOM, **more: Any) -> None:
        """Entries that MIMI has no message for; wakes the followers."""
        first = self._seq.get(room_id, 0) + 1
        self._seq[room_id] = first + count - 1
        entries = tuple(plain(seq, room_id) for seq in range(first, first + count))
        await self.store.append(RoomAppend(room_id=room_id, entries=entries, **more))
        self.followers.room_changed(room_id)

    async def append_rows(self, entries: list[EntryRow], *welcomes: NewToDevice) -> None:
        first = self._seq.get(ROOM, 0) + 1
        renumbered = tuple(replace(entry, seq=seq) for seq, entry in enumerate(entries, first))
        self._seq[ROOM] = renumbered[-1].seq
        await self.store.append(RoomAppend(room_id=ROOM, entries=renumbered, to_device=welcomes))
        self.followers.room_changed(ROOM)

    def cursor(self, room_id: str = ROOM) -> list[int]:
        return [self.followers.progress.of(row).cursor for row in self.store.followers(room_id)]


def plain(seq: int, room_id: str) -> EntryRow:
    return EntryRow(
        room_id=room_id,
        seq=seq,
        event_id=f"${room_id}{seq}",
        type="m.room.message",
        state_key=None,
        sender="@alice:a.example",
        origin_server_ts=0,
        epoch=None,
        pdu=orjson.dumps({"room_id": room_id, "content": {}}),
    )


def mimi(cursor: int = 0, room_id: str = ROOM, **more: Any) -> FollowerRow:
    return FollowerRow(room_id=room_id, provider="b.example", protocol=MIMI, cursor=cursor, **more)


def linear(cursor: int = 0, room_id: str = ROOM, **more: Any) -> FollowerRow:
    return FollowerRow(room_id=room_id, provider="b.example", protocol=LINEARIZED, cursor=cursor, **more)


@asynccontextmanager
async def delivering(path: Path, peer: Peer | None = None, *, jitter: float = 0.5) -> AsyncIterator[Setting]:
    """A store and its followers; jitter 0.5 makes pauses exactly as long as they are called."""
    peer = peer or Peer()
    store = SqliteStore.open(path, synchronous="OFF", in_thread=False)
    async with trio.open_nursery() as writing:
        await writing.start(store.run)
        async with trio.open_nursery() as nursery:
            followers = Followers(
                own_name="a.example",
                store=store,
                providers=cast("ProviderClient", peer),
                federation=cast("FederationClient", peer),
                nursery=nursery,
                pulls=PullFollowers(store=store, key=A.key),
                jitter=lambda: jitter,
            )
            yield Setting(store, peer, followers)
            nursery.cancel_scope.cancel()
        writing.cancel_scope.cancel()
    await store.aclose()


def messages(count: int) -> list[EntryRow]:
    bob = Member(BOB)
    room, _, _ = grouped_room(bob)
    return rows(*(room.submit(bob.message(), now=NOW) for _ in range(count)))


def welcome(accepted: Accepted, seq: int) -> NewToDevice:
    (effect,) = accepted.welcomes
    content = {
        "welcome": encode_base64(effect.welcome),
        "ratchet_tree": encode_base64(effect.ratchet_tree),
        "timestamp": NOW,
        "seq": seq,
    }
    return NewToDevice(
        user_id=provider_address("b.example"),
        device_id=ROOM,
        type=PROVIDER_TYPE,
        sender="@alice:a.example",
        content=orjson.dumps(content),
    )


def roles(body: bytes) -> list[str]:
    return [message_role(message.message) for message in decode_fanout_stream(body)]


async def quiet() -> None:
    await trio.testing.wait_all_tasks_blocked()
