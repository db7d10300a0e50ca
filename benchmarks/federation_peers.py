"""The other servers of ``bench_federation``: one process that sends and receives for all of them.

A process of its own, so that what they cost is not counted as the hub's. It reads commands from standard
input and writes answers to standard output, one JSON object per line. Times in answers are of the monotonic
clock, which all processes of a machine share.
"""

from __future__ import annotations

import hashlib
import json
import logging
import resource
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import trio

from linearized.config import Address, TlsConfig
from linearized.protocol.build import build_lpdu
from linearized.protocol.canonical import canonical_json
from linearized.protocol.signing import ServerIdentity, SigningKey
from linearized.protocol.versions import get_version
from linearized.server import telemetry
from linearized.server.connecting import Guard
from linearized.server.dns_lookup import Dns
from linearized.server.endpoints import FINAL
from linearized.server.exchange import Channel, Outgoing
from linearized.server.http import Receive, Scope, Send
from linearized.server.key_documents import own_document
from linearized.server.listener import Binding, serve_bindings, server_context
from linearized.server.opening import system_clock
from linearized.server.serial_channel import SerialChannel
from linearized.server.xmatrix import sign_request

HUB = "a.example"
VERSION = "dev.linearized.1"
PATIENCE = 60  # seconds for any one request: a benchmark that hangs should say so
LEAD = 0.1  # seconds before the first request of a fixed rate is due: all senders wait by then
OK = 200
MOST_ANSWERED = 2**20  # bytes

Request = tuple[str, bytes, dict[str, str]]  # path, body, headers


def name_of(number: int) -> str:
    return f"p{number}.example"


def identity_of(name: str) -> ServerIdentity:
    return ServerIdentity(name, SigningKey.generate("bench", hashlib.sha256(name.encode()).digest()))


def cpu_seconds() -> float:
    """CPU time of all threads of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": OK, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def read_body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


class Inbox:
    """What the hub sent to all of these servers, as an ASGI application.

    Measured events carry a number ``n``; those before and between them are counted with the requests only.
    """

    def __init__(self) -> None:
        self.changed = trio.Event()
        self.reset()

    def reset(self) -> None:
        self.requests = self.events = self.bytes = 0
        self.arrived: dict[tuple[str, int], float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = dict(scope["headers"])[b"host"].decode()
        body = await read_body(receive)
        if scope["method"] == "GET":
            await answer(send, orjson.dumps(own_document(identity_of(host), system_clock())))
            return
        now = time.monotonic()
        pdus = orjson.loads(body)["pdus"]
        self.requests += 1
        self.events += len(pdus)
        self.bytes += len(body)
        for pdu in pdus:
            number = pdu["content"].get("n")
            if number is not None:
                self.arrived.setdefault((host, number), now)
        self.changed.set()
        await answer(send, b'{"failed_pdus":{}}')

    async def wait_for(self, count: int) -> None:
        """Wait until so many numbered events have arrived, each counted once for each server."""
        while len(self.arrived) < count:
            self.changed = trio.Event()
            await self.changed.wait()


class Peers:
    """Every command is a method; it gets the command's fields and gives the answer's."""

    def __init__(self, trust: ssl.SSLContext) -> None:
        self._trust = trust
        self._inbox = Inbox()
        self._prepared: dict[str, list[Request]] = {}
        self._channels: dict[str, Channel] = {}
        self._address = Address(host="127.0.0.1", port=0)
        self.app = self._inbox

    def _channel(self, port: int) -> Channel:
        """What our own server sends transactions by."""
        self._address = Address(host="127.0.0.1", port=port)
        return SerialChannel(
            self._trust,
            Guard(Dns(), trusted=True),
            connect_seconds=PATIENCE,
            connections=1,
            keep_seconds=PATIENCE,
        )

    async def _put(self, channel: Channel, method: str, request: Request) -> bytes:
        path, body, headers = request
        reply = await channel.exchange(
            Outgoing(
                method=method,
                address=self._address,
                tls_name=HUB,
                target=path,
                headers={"Host": HUB, **headers},
                body=body,
            ),
            MOST_ANSWERED,
        )
        assert reply.status == OK, reply.body
        return reply.body

    def _signed(self, name: str, method: str, path: str, body: dict[str, Any]) -> Request:
        authorization = sign_request(
            identity_of(name), destination=HUB, method=method, uri=path, content=body
        )
        return path, canonical_json(body), {"Authorization": authorization}

    def _lpdu(self, name: str, room: str, **more: Any) -> dict[str, Any]:
        return build_lpdu(
            identity=identity_of(name),
            version=get_version(VERSION),
            room_id=room,
            sender=f"@user:{name}",
            origin_server_ts=system_clock(),
            hub_server=HUB,
            **more,
        )

    async def join(self, port: int, room: str, servers: int) -> dict[str, Any]:
        """One user of each server joins the room."""
        channel = self._channel(port)
        for name in map(name_of, range(servers)):
            lpdu = self._lpdu(
                name,
                room,
                type="m.room.member",
                state_key=f"@user:{name}",
                content={"membership": "join"},
            )
            path = f"{FINAL}/v3/send_join/join"
            await self._put(channel, "POST", self._signed(name, "POST", path, lpdu))
        await channel.aclose()
        return {}

    async def prepare(self, room: str, servers: int, events: int, batch: int) -> dict[str, Any]:
        """Build and sign transactions, in equal shares for each server; the sending is what is timed."""
        names = [name_of(number) for number in range(servers)]
        self._prepared = {name: [] for name in names}
        for first in range(0, events, batch):
            name = names[first // batch % servers]
            pdus = [
                self._lpdu(
                    name,
                    room,
                    type="m.room.message",
                    content={"msgtype": "m.text", "body": f"message {number}", "n": number},
                )
                for number in range(first, min(first + batch, events))
            ]
            path = f"{FINAL}/v2/send/txn{first}"
            self._prepared[name].append(self._signed(name, "PUT", path, {"pdus": pdus}))
        requests = [request for each in self._prepared.values() for request in each]
        return {"requests": len(requests), "bytes": sum(len(body) for _, body, _ in requests)}

    async def connect(self, port: int) -> dict[str, Any]:
        """Open a connection to ``port`` for each server that has something to send: no handshake is timed."""
        for name in self._prepared:
            self._channels[name] = self._channel(port)
            await self._put(self._channels[name], "GET", ("/_matrix/key/v2/server", b"", {}))
        return {}

    async def disconnect(self) -> dict[str, Any]:
        """Close what ``connect`` opened."""
        while self._channels:
            await self._channels.popitem()[1].aclose()
        return {}

    async def send(self) -> dict[str, Any]:
        """Send what was prepared: each server one transaction after the other, all servers at once."""
        durations: list[float] = []
        answers: list[bytes] = []

        async def one(name: str) -> None:
            for request in self._prepared[name]:
                began = time.monotonic()
                answers.append(await self._put(self._channels[name], "PUT", request))
                durations.append(time.monotonic() - began)

        cpu, began = cpu_seconds(), time.monotonic()
        async with trio.open_nursery() as nursery:
            for name in self._prepared:
                nursery.start_soon(one, name)
        wall, cpu = time.monotonic() - began, cpu_seconds() - cpu
        refused = sum(len(orjson.loads(content).get("failed_pdus", ())) for content in answers)
        return {"wall": wall, "cpu": cpu, "durations": durations, "refused": refused}

    async def pace(self, per_second: float, followers: int) -> dict[str, Any]:
        """Send what was prepared, the servers in turn, each request when it is due, and say for each event
        and follower how long after that it arrived. A request that has to wait for the one before it is
        late by that much.
        """
        servers = len(self._prepared)
        events = sum(len(requests) for requests in self._prepared.values())
        began = time.monotonic() + LEAD

        async def one(server: int, name: str) -> None:
            for index, request in enumerate(self._prepared[name]):
                due = began + (index * servers + server) / per_second
                await trio.sleep(max(0.0, due - time.monotonic()))
                await self._put(self._channels[name], "PUT", request)

        async with trio.open_nursery() as nursery:
            for server, name in enumerate(self._prepared):
                nursery.start_soon(one, server, name)
        await self._inbox.wait_for(events * followers)
        wall = time.monotonic() - began
        late = [at - began - number / per_second for (_, number), at in self._inbox.arrived.items()]
        return {"latencies": late, "wall": wall}

    async def reset(self) -> dict[str, Any]:
        """Forget what arrived."""
        self._inbox.reset()
        return {"cpu": cpu_seconds()}

    async def received(self, events: int) -> dict[str, Any]:
        """Wait for so many numbered events, then say what arrived since ``reset``."""
        await self._inbox.wait_for(events)
        inbox = self._inbox
        return {
            "at": max(inbox.arrived.values(), default=0.0),
            "requests": inbox.requests,
            "events": inbox.events,
            "bytes": inbox.bytes,
            "cpu": cpu_seconds(),
        }


async def main(certificate: Path, key: Path, ca: Path) -> None:
    telemetry.configure(logging.ERROR)
    peers = Peers(ssl.create_default_context(cafile=str(ca)))
    binding = Binding(
        address=Address(host="127.0.0.1", port=0),
        app=peers.app,
        tls=server_context(TlsConfig(certificate=certificate, key=key, trusted_ca=ca)),
    )
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(partial(serve_bindings, [binding], stop=trio.Event()))
        print(json.dumps({"port": address.port}), flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.buffer.readline):
            fields = json.loads(line)
            command: Callable[..., Awaitable[dict[str, Any]]] = getattr(peers, fields.pop("do"))
            print(json.dumps(await command(**fields)), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, *map(Path, sys.argv[1:]))
