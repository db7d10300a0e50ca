"""A provider in memory for the tests of the client API: real store, hub and rooms; no other server to talk
to.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode

import openmls
import orjson
import trio

from linearized.config import Address, BridgeConfig, Config, ListenConfig, TlsConfig
from linearized.protocol.canonical import JsonObject
from linearized.protocol.signing import ServerIdentity, SigningKey
from linearized.server import clients
from linearized.server.app import App, build_app
from linearized.server.clients.auth import token_hash
from linearized.server.clients.sessions import TOKEN_BYTES
from linearized.server.franking import Franking
from linearized.server.franking_keys import load_franking_keys
from linearized.server.http import HttpError, Router
from linearized.server.hub import Hub
from linearized.server.join_codes import JoinCodes
from linearized.server.metadata_policies import HubPolicies
from linearized.server.mls import OpenMls
from linearized.server.node import Node
from linearized.server.notifier import Notifier
from linearized.server.ordered_rooms import OrderedRooms
from linearized.server.outbound import OutboundError
from linearized.server.rooms import Rooms
from linearized.store.base import DeviceRow, UserRow
from linearized.store.sqlite import SqliteStore
from tests.server.clients.traffic import check

V3 = "/_matrix/client/v3"
MLS = "/_matrix/client/unstable/dev.linearized.1"
BRIDGE_TOKEN = "bridge-token-0123456789-0123456789-01234"
BOT = "@_bridge:a.example"
DORA = "@dora:a.example"
PASSWORD = "correct horse"
"""Hers; the other users of these tests have none."""
START_MS = 1_700_000_000_000
KNOCKABLE = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
ENCRYPTED_ROOM = {"encryption": {"algorithm": "m.mls.v1.dhkemx25519-aes128gcm-sha256-ed25519"}}


class Unreachable:
    """Stands in for everything that would talk to another server: nobody is there."""

    async def request(self, server: str, *_: Any, **__: Any) -> JsonObject:
        """Fail as an unreachable server does."""
        raise OutboundError(f"{server} does not answer")

    get_json = post = exchange = gateway_keys = oblivious = request

    def units_waiting(self, server: str) -> int:
        """Nothing is on its way to a server."""
        del server
        return 0

    def room_changed(self, room_id: str) -> None:
        """No follower is waiting."""


@dataclass(slots=True)
class Clock:
    """Milliseconds since the Unix epoch, moved by hand."""

    now: int = START_MS

    def __call__(self) -> int:
        return self.now


@dataclass(slots=True)
class Ids:
    """Random-looking tokens that are the same in every run."""

    count: int = field(default=0)

    def __call__(self, size: int) -> str:
        self.count += 1
        return hashlib.sha256(f"id {self.count}".encode()).hexdigest()[: size * 2]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; ``json`` decodes its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return orjson.loads(self.body)

    def ok(self) -> Any:
        """The decoded body of a 200."""
        assert self.status == 200, (self.status, self.body)
        return self.json

    def refused(self, status: int, errcode: str) -> JsonObject:
        """The body of an error with just this status and code."""
        body: JsonObject = self.json
        assert (self.status, body["errcode"]) == (status, errcode), body
        assert isinstance(body["error"], str)
        return body


@dataclass(slots=True)
class Server:
    """A running provider and its application."""

    node: Node
    app: App
    router: Router
    clock: Clock

    @property
    def store(self) -> SqliteStore:
        """The real store."""
        return cast("SqliteStore", self.node.store)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        query: Mapping[str, str | list[str]] | None = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        address: str = "192.0.2.1",
        writing: float = 0,
    ) -> Answer:
        """Run one request through the application; to write the answer takes ``writing`` seconds."""
        data = raw if raw is not None else b"" if body is None else orjson.dumps(body)
        sent = {**({"authorization": f"Bearer {token}"} if token is not None else {}), **(headers or {})}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": urlencode(query or {}, doseq=True).encode(),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "client": (address, 4711),
        }
        messages: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await trio.lowlevel.checkpoint()
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            await trio.sleep(writing)
            messages.append(message)

        await self.app(scope, receive, send)
        if b"application/json" in dict(messages[0]["headers"]).get(b"content-type", b""):
            status, pattern = messages[0]["status"], self.pattern(method, path)
            check(method, pattern, status=status, request=data, response=messages[1]["body"])
        response_headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        return Answer(messages[0]["status"], response_headers, messages[1]["body"])

    def pattern(self, method: str, path: str) -> str:
        """The pattern of the route a path takes; the path itself if it takes none."""
        try:
            return self.router.match(method, path)[0].pattern
        except HttpError:
            return path

    async def user(self, name: str, device_id: str = "DEVICE") -> Client:
        """An account with a device, without the cost of hashing a password."""
        user_id, token = f"@{name}:a.example", self.node.ids(TOKEN_BYTES)
        await self.store.put_user(UserRow(user_id=user_id, password_hash=None, created_ts=START_MS))
        await self.store.put_device(
            DeviceRow(user_id=user_id, device_id=device_id, display_name=None, token_hash=token_hash(token))
        )
        return Client(self, user_id, token, device_id)

    def bridge(self, user_id: str = BOT, device_id: str | None = None) -> Client:
        """The bridge, as its bot or as a user of its domain."""
        extra = {"user_id": user_id, **({"device_id": device_id} if device_id is not None else {})}
        return Client(self, user_id, BRIDGE_TOKEN, device_id, extra)


@dataclass(frozen=True, slots=True)
class Client:
    """One device's view of the server."""

    server: Server
    user_id: str
    token: str
    device_id: str | None
    extra: Mapping[str, str] = field(default_factory=dict)

    async def call(
        self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None
    ) -> Answer:
        """A request with this device's token; ``path`` may leave out the v3 prefix."""
        full = path if path.startswith("/_matrix") else V3 + path
        pairs = {**self.extra, **{name: str(value) for name, value in (query or {}).items()}}
        return await self.server.call(method, full, body, token=self.token, query=pairs)

    async def create_room(self, **body: Any) -> str:
        """``POST createRoom``; a room without encryption unless asked otherwise needs version I.1."""
        body.setdefault("room_version", "I.1")
        answer = (await self.call("POST", "/createRoom", body)).ok()
        room_id: str = answer["room_id"]
        return room_id

    async def send(self, room_id: str, body: str, txn: str, **query: Any) -> Answer:
        """Send a text message."""
        content = {"msgtype": "m.text", "body": body}
        return await self.call("PUT", f"{room(room_id)}/send/m.room.message/{part(txn)}", content, query)

    async def sync(self, since: str | None = None, **query: Any) -> JsonObject:
        """``GET sync``."""
        token = {"since": since} if since is not None else {}
        answer: JsonObject = (await self.call("GET", "/sync", query={**token, **query})).ok()
        return answer


def part(value: str) -> str:
    """A path segment."""
    return quote(value, safe="")


def room(room_id: str, prefix: str = "") -> str:
    """The path of a room."""
    return f"{prefix}/rooms/{part(room_id)}"


def config_for(data_dir: Path) -> Config:
    """Settings of ``a.example`` with a bridge for ``matrix.example``."""
    return Config(
        server_name="a.example",
        data_dir=data_dir,
        listen=ListenConfig(tls=Address(host="127.0.0.1", port=0)),
        tls=TlsConfig(certificate=data_dir / "cert.pem", key=data_dir / "key.pem"),
        bridges=(
            BridgeConfig(
                id="matrix",
                token_file=data_dir / "token",
                token=BRIDGE_TOKEN,
                bot=BOT,
                domains=("matrix.example",),
            ),
        ),
    )


@asynccontextmanager
async def running_server(tmp_path: Path) -> AsyncIterator[Server]:
    """A provider ``a.example`` on a new database."""
    config = config_for(tmp_path)
    identity = ServerIdentity(name="a.example", key=SigningKey.generate("a", bytes(32)))
    store = SqliteStore.open(tmp_path / "store.sqlite3", synchronous="OFF", in_thread=False)
    clock, notifier, nobody = Clock(), Notifier(), cast("Any", Unreachable())
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        franking = Franking(load_franking_keys(config.data_dir), own_name=identity.name, store=store)
        node = Node(
            config=config,
            identity=identity,
            mls_signer=openmls.SignatureKeyPair.generate(),
            store=store,
            notifier=notifier,
            clock=clock,
            ids=Ids(),
            keys=nobody,
            federation=nobody,
            providers=nobody,
            followers=nobody,
            franking=franking,
            gateway_keys=(),
        )
        rooms = OrderedRooms(
            identity=identity,
            store=store,
            mls=OpenMls(clock),
            signer=node.mls_signer,
            vouched=node.bridged_domains,
            agents=franking.agents,
            appended=lambda room_id, *_: notifier.users_changed(
                member.user_id for member in store.memberships(room_id)
            ),
        )
        hub = Hub(rooms, clock=clock, nursery=nursery)
        node.hub_policies = HubPolicies(nobody, config, signer=node.mls_signer, clock=clock)
        node.rooms = Rooms(node, hub)
        node.join_codes = JoinCodes(node, hub)
        routes = clients.routes(node)
        yield Server(node, build_app(routes), Router(routes), clock)
        await store.aclose()
        nursery.cancel_scope.cancel()
