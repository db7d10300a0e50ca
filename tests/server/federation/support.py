"""A foreign Linearized Matrix server, played by the test, beside a real server of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import trio

from linearized.protocol.build import build_lpdu
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.events import Event, parse_pdu
from linearized.protocol.signing import ServerIdentity, SigningKey
from linearized.protocol.versions import ROOM_VERSIONS, RoomVersion
from linearized.room.submissions import LocalEvent
from linearized.server.app import build_app
from linearized.server.federation import FINAL, UNSTABLE
from linearized.server.http import HttpError, Request, Response, Route, json_response
from linearized.server.key_documents import own_document
from linearized.server.opening import system_clock
from linearized.server.xmatrix import sign_request
from linearized.store.base import UserRow
from tests.server.support import Network, Server, running_server

ALICE = "@alice:a.example"
BOB = "@bob:b.example"
V1 = ROOM_VERSIONS["I.1"]
DEV = ROOM_VERSIONS["dev.linearized.1"]

__all__ = [
    "ALICE",
    "BOB",
    "DEV",
    "FINAL",
    "UNSTABLE",
    "V1",
    "Answer",
    "Foreign",
    "World",
    "account",
    "event_of",
    "room",
    "world",
]


@dataclass
class Answer:
    """What a server of ours answered: status and decoded body."""

    status: int
    body: JsonObject

    @property
    def errcode(self) -> str | None:
        return self.body.get("errcode")


@dataclass
class Foreign:
    """Another server: it signs requests, keeps what it is sent, and answers invites as told."""

    name: str
    network: Network
    received: list[JsonObject] = field(default_factory=list)
    invites: list[JsonObject] = field(default_factory=list)
    invite_answer: Callable[[JsonObject], Response] = field(
        default=lambda body: json_response({"pdu": body["event"]})
    )

    claims: list[JsonObject] = field(default_factory=list)
    claim_answer: Response = field(default_factory=lambda: json_response({"one_time_keys": {}}))
    devices: dict[str, Response | None] = field(default_factory=dict)  # None never answers
    template: JsonObject = field(default_factory=dict)
    knock_answer: Response = field(default_factory=lambda: json_response({"stripped_state": []}))

    def __post_init__(self) -> None:
        self.identity = ServerIdentity(
            self.name, SigningKey.generate("f", self.name.encode().ljust(32, b"f"))
        )
        self.network.apps[self.name] = build_app(
            [
                Route("GET", "/_matrix/key/v2/server", self._keys),
                Route("PUT", f"{UNSTABLE}/send/{{txn}}", self._take),
                Route("POST", f"{UNSTABLE}/invite/{{txn}}", self._invited),
                Route("POST", f"{UNSTABLE}/user/keys/claim", self._claimed),
                Route("GET", f"{UNSTABLE}/user/{{user_id}}/device/{{device_id}}", self._device),
                Route("GET", "/_matrix/federation/v1/make_knock/{room_id}/{user_id}", self._make),
                Route("POST", f"{UNSTABLE}/send_knock/{{txn}}", self._knocked),
            ]
        )

    async def _keys(self, _request: Request) -> Response:
        return json_response(own_document(self.identity, system_clock()))

    async def _take(self, request: Request) -> Response:
        self.received += (await request.json())["pdus"]
        return json_response({"failed_pdus": {}})

    async def _claimed(self, request: Request) -> Response:
        self.claims.append(await request.json())
        return self.claim_answer

    async def _device(self, request: Request) -> Response:
        if request.params["device_id"] not in self.devices:
            raise HttpError(404, "M_NOT_FOUND", "No such device")
        answer = self.devices[request.params["device_id"]]
        if answer is None:
            await trio.sleep_forever()
        return answer

    async def _make(self, _request: Request) -> Response:
        return json_response(self.template)

    async def _knocked(self, _request: Request) -> Response:
        return self.knock_answer

    async def _invited(self, request: Request) -> Response:
        body = await request.json()
        self.invites.append(body)
        if self.network.down:
            raise HttpError(403, "M_FORBIDDEN", "No")
        return self.invite_answer(body)

    async def ask(
        self, method: str, path: str, body: JsonObject | None = None, *, to: str = "a.example"
    ) -> Answer:
        """One signed request; the body has been through JSON both ways."""
        authorization = sign_request(
            self.identity, destination=to, method=method, uri=path, content={} if body is None else body
        )
        async with httpx.AsyncClient(transport=self.network.transport(self.name)) as client:
            response = await client.request(
                method,
                f"https://{to}{path}",
                content=b"" if body is None else canonical_json(body),
                headers={"Authorization": authorization},
            )
        return Answer(response.status_code, response.json())

    def lpdu(self, room_id: str, sender: str, kind: str, content: JsonObject, **more: Any) -> JsonObject:
        """An LPDU for a room of a.example."""
        settings: dict[str, Any] = {"hub_server": "a.example", "version": V1, "origin_server_ts": 1, **more}
        return build_lpdu(
            identity=self.identity, room_id=room_id, sender=sender, type=kind, content=content, **settings
        )

    def member(self, room_id: str, user: str, membership: str, **more: Any) -> JsonObject:
        """The LPDU of a user's own membership change."""
        return self.lpdu(room_id, user, "m.room.member", {"membership": membership}, state_key=user, **more)

    async def join(self, room_id: str, user: str = BOB, **more: Any) -> JsonObject:
        """Join a room; the body of the answer."""
        answer = await self.ask(
            "POST", f"{UNSTABLE}/send_join/join{user}", self.member(room_id, user, "join", **more)
        )
        assert answer.status == 200, answer
        return answer.body

    async def send(self, txn: str, *pdus: JsonObject, **more: Any) -> Answer:
        """One transaction."""
        return await self.ask("PUT", f"{UNSTABLE}/send/{quote(txn)}", {"pdus": list(pdus), **more})


@dataclass
class World:
    """A server of ours and a foreign one."""

    server: Server
    foreign: Foreign
    network: Network


async def account(server: Server, user_id: str) -> None:
    """An account nobody can log in to: hashing a password would take most of a test's time."""
    await server.node.store.put_user(UserRow(user_id=user_id, password_hash=None, created_ts=1))


@asynccontextmanager
async def world(directory: Path, *, foreign: str = "b.example", alice: bool = True) -> AsyncIterator[World]:
    """Put both on one network."""
    network = Network()
    async with running_server("a.example", directory, network) as server:
        if alice:
            await account(server, ALICE)
        yield World(server, Foreign(foreign, network), network)


async def room(
    server: Server, *, version: RoomVersion = V1, join_rule: str = "public", more: tuple[LocalEvent, ...] = ()
) -> str:
    """A room of Alice's that anybody may join."""
    rules = LocalEvent(sender=ALICE, type="m.room.join_rules", state_key="", content={"join_rule": join_rule})
    return await server.node.rooms.create(
        creator=ALICE, version=version.name, creation_content={}, initial=[rules, *more]
    )


def event_of(pdu: JsonObject, version: RoomVersion = V1) -> Event:
    """A PDU from an answer, checked."""
    return parse_pdu(pdu, version)
