"""Another MIMI provider, played by the test with real MLS bytes, beside a real server of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import openmls

from linearized.mimi.key_material import KeyMaterialRequest, KeyMaterialRequestTBS, RequiredCapabilities
from linearized.protocol.identifiers import client_uri, group_id, room_uri, user_uri
from linearized.room.admission import ALGORITHM
from linearized.room.submissions import Accepted
from linearized.server.app import build_app
from linearized.server.http import Request, Response, Route, json_response
from linearized.server.providers import PREFIX
from linearized.server.providers.client import DIRECTORY_PATH
from linearized.store.base import DeviceRow, KeyPackageRow, UserRow
from tests.room.support import ALICE, BOB, LIFETIME, MLS, Member, handshake
from tests.server.support import Network, Server, running_server

__all__ = ["ALICE", "BOB", "Provider", "World", "key_request", "with_packages", "world"]

BINARY = "application/octet-stream"
SUITE = openmls.CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519


@dataclass
class Provider:
    """Another provider: it asks, keeps what it is notified of, and answers key material as told."""

    name: str
    network: Network
    notified: list[bytes] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)
    key_material: Callable[[bytes], Response] = field(default=lambda _: Response(status=404))
    directory: Response | None = None

    def __post_init__(self) -> None:
        self.network.apps[self.name] = build_app(
            [
                Route("GET", DIRECTORY_PATH, self._directory),
                Route("POST", "/notify/{target}", self._notify),
                Route("POST", "/keys/{target}", self._keys),
            ]
        )

    async def _directory(self, _request: Request) -> Response:
        base = f"https://{self.name}"
        endpoints = {"notify": f"{base}/notify/{{roomId}}", "keyMaterial": f"{base}/keys/{{targetUser}}"}
        return self.directory or json_response(endpoints)

    async def _notify(self, request: Request) -> Response:
        self.notified.append(await request.body())
        return Response(status=201)

    async def _keys(self, request: Request) -> Response:
        self.asked.append(await request.body())
        return self.key_material(self.asked[-1])

    async def ask(
        self,
        endpoint: str,
        target: str,
        body: bytes,
        *,
        certificate: str | None = None,
        sender: str | None = None,
        host: str = "a.example",
    ) -> httpx.Response:
        """One request to a.example; by default with our certificate and From header."""
        origin = self.name if certificate is None else certificate
        headers = {"From": f"mimi@{self.name}" if sender is None else sender, "Host": host}
        self.network.apps.setdefault(host.partition(":")[0], self.network.apps["a.example"])
        async with httpx.AsyncClient(transport=self.network.transport(origin)) as client:
            return await client.post(
                f"https://a.example{PREFIX}/{endpoint}/{quote(target, safe='')}",
                content=body,
                headers={"Content-Type": BINARY, **{name: text for name, text in headers.items() if text}},
            )


@dataclass
class World:
    """a.example with an encrypted room of Alice's, and the provider b.example, whose Bob is in it."""

    server: Server
    other: Provider
    room_id: str
    alice: Member
    bob: Member
    accepted: Accepted

    @property
    def uri(self) -> str:
        return room_uri(self.room_id)

    async def add(self, member: Member) -> None:
        """Alice adds a client; it joins."""
        self.accepted = await self.server.node.rooms.submit(self.room_id, self.alice.add(member))
        self.alice.accept()
        member.join(self.accepted)

    async def commit(self) -> None:
        """Alice begins a new epoch."""
        self.accepted = await self.server.node.rooms.submit(
            self.room_id, handshake(self.alice, self.alice.joined().commit())
        )
        self.alice.accept()

    def head(self) -> int:
        row = self.server.node.rooms.row(self.room_id)
        assert row is not None
        return row.head_seq


@asynccontextmanager
async def world(
    directory: Path,
    *,
    with_bob: bool = True,
    senders: Sequence[tuple[bytes, bytes]] = (),
    **options: Any,
) -> AsyncIterator[World]:
    network = Network()
    other = Provider("b.example", network)
    async with running_server("a.example", directory, network, **options) as server:
        room_id = await server.node.rooms.create(
            creator=ALICE,
            version="dev.linearized.1",
            creation_content={"encryption": {"algorithm": ALGORITHM}},
            initial=[],
        )
        alice, bob = Member(ALICE), Member(BOB)
        accepted = await server.node.rooms.submit(
            room_id, alice.create(name=group_id(room_id), external_senders=senders)
        )
        alice.accept()
        found = World(server, other, room_id, alice, bob, accepted)
        if with_bob:
            await found.add(bob)
        yield found


def key_request(
    member: Member,
    target: str,
    room: str,
    *,
    suites: Sequence[int] = (SUITE,),
    required: RequiredCapabilities | None = None,
    requesting_user: str | None = None,
    signature: bytes | None = None,
) -> KeyMaterialRequest:
    """A request of a client for somebody's key material, signed with its key."""
    fields: dict[str, Any] = {
        "requesting_user": requesting_user or user_uri(member.user_id),
        "target_user": target,
        "room_id": room,
        "acceptable_ciphersuites": tuple(suites),
        "required_capabilities": required or RequiredCapabilities(),
        "requester_signature_key": member.client.signature_key,
        "requester_credential": member.client.credential,
    }
    signed = KeyMaterialRequestTBS(**fields).encode()
    made = member.client.sign_with_label(label="KeyMaterialRequestTBS", content=signed)
    return KeyMaterialRequest(**fields, signature=signature or made)


async def with_packages(
    server: Server,
    user_id: str,
    device_id: str,
    *,
    packages: int = 1,
    last_resort: bool = False,
    client: openmls.Client | None = None,
) -> openmls.Client:
    """A user of a server with a device and key packages in its store."""
    store = server.node.store
    client = client or openmls.Client.create(identity=client_uri(user_id, device_id).encode())
    await store.put_user(UserRow(user_id=user_id, password_hash=None, created_ts=0))
    await store.put_device(
        DeviceRow(user_id=user_id, device_id=device_id, display_name=None, token_hash=None)
    )
    made = [client.key_package(now=MLS.now, lifetime=LIFETIME) for _ in range(packages)]
    if last_resort:
        made.append(client.key_package(now=MLS.now, lifetime=LIFETIME, last_resort=True))
    infos = [openmls.inspect_key_package(package, now=MLS.now) for package in made]
    await store.put_key_packages(
        [
            KeyPackageRow(
                reference=info.reference,
                user_id=user_id,
                device_id=device_id,
                client_uri=client_uri(user_id, device_id),
                key_package=package,
                ciphersuite=info.ciphersuite,
                last_resort=info.last_resort,
                not_after=info.not_after,
            )
            for package, info in zip(made, infos, strict=True)
        ]
    )
    return client
