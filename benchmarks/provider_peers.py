"""The other MIMI providers of ``bench_providers``: one process that sends and receives for all of them.

Commands and answers are those of ``federation_peers``: one JSON object per line. Octets are base64.
"""

from __future__ import annotations

import json
import logging
import ssl
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import openmls
import orjson
import trio

from benchmarks.federation_peers import HUB, OK, PATIENCE, answer, cpu_seconds, name_of, read_body
from linearized.config import Address, TlsConfig
from linearized.mimi.group_info import GroupInfoRequest, GroupInfoRequestTBS
from linearized.mimi.handshake import (
    GroupInfoOption,
    HandshakeBundle,
    PartialGroupInfo,
    RatchetTreeOption,
    RatchetTreePresence,
    RatchetTreeRepresentation,
    UpdateResponseCode,
    UpdateRoomResponse,
)
from linearized.mimi.messages import (
    SubmitMessageRequest,
    SubmitMessageResponse,
    SubmitResponseCode,
    decode_fanout_stream,
)
from linearized.protocol.identifiers import room_uri, user_uri
from linearized.server import telemetry
from linearized.server.http import Receive, Scope, Send
from linearized.server.listener import Binding, serve_bindings, server_context
from linearized.server.providers import PREFIX
from linearized.server.providers.client import CONTENT_TYPE, DIRECTORY_PATH
from tests.room.support import Member, handshake

CREATED = 201
SUITE = openmls.CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519


class Inbox:
    """What the hub notified these providers of."""

    def __init__(self) -> None:
        self.changed = trio.Event()
        self.reset()

    def reset(self) -> None:
        self.requests = self.messages = self.bytes = 0
        self.last = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = dict(scope["headers"])[b"host"].decode()
        body = await read_body(receive)
        if scope["path"] == DIRECTORY_PATH:
            endpoint = f"https://{host}{PREFIX}/notify/{{roomId}}"
            await answer(send, orjson.dumps({"notify": endpoint}))
            return
        self.requests += 1
        self.messages += len(decode_fanout_stream(body))
        self.bytes += len(body)
        self.last = time.monotonic()
        self.changed.set()
        await send({"type": "http.response.start", "status": CREATED, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def wait_for(self, count: int) -> None:
        while self.messages < count:
            self.changed = trio.Event()
            await self.changed.wait()


class Providers:
    """Every command is a method; it gets the command's fields and gives the answer's."""

    def __init__(self, trust: ssl.SSLContext) -> None:
        self._trust = trust
        self.inbox = Inbox()
        self._members: list[Member] = []
        self._room = ""
        self._path = ""
        self._bodies: list[bytes] = []
        self._clients: list[httpx.AsyncClient] = []

    async def packages(self, providers: int) -> dict[str, Any]:
        """A client of one user at each provider; their key packages."""
        self._members = [Member(f"@user:{name_of(number)}") for number in range(providers)]
        return {"packages": [b64encode(member.key_package()).decode() for member in self._members]}

    async def join(self, room: str, welcome: str, tree: str) -> dict[str, Any]:
        """The first provider's client joins; the others only listen."""
        self._room = room
        first = self._members[0]
        first.group = first.client.join_welcome(welcome=b64decode(welcome), ratchet_tree=b64decode(tree))
        return {}

    def _prepared(self, endpoint: str, bodies: list[bytes]) -> dict[str, Any]:
        self._path = f"{PREFIX}/{endpoint}/{quote(room_uri(self._room), safe='')}"
        self._bodies = bodies
        return {"bytes": sum(map(len, bodies))}

    async def messages(self, count: int) -> dict[str, Any]:
        """Prepare submitMessage requests."""
        sender = self._members[0]
        ciphertexts = [sender.joined().encrypt(b"message %d" % number) for number in range(count)]
        uri = user_uri(sender.user_id)
        bodies = [SubmitMessageRequest(message=text, sending_uri=uri).encode() for text in ciphertexts]
        return self._prepared("submitMessage", bodies)

    async def commits(self, count: int) -> dict[str, Any]:
        """Prepare update requests, each a commit on the one before it: the client is not timed."""
        return self._prepared("update", [bundle.encode() for bundle in self._bundles(count)])

    async def partial_commits(self, count: int) -> dict[str, Any]:
        """The same without what the hub knows or can work out: most of the GroupInfo, and the tree."""
        return self._prepared("update", [_partial(bundle).encode() for bundle in self._bundles(count)])

    def _bundles(self, count: int) -> Iterator[HandshakeBundle]:
        sender = self._members[0]
        for _ in range(count):
            yield handshake(sender, sender.joined().commit()).bundle
            sender.accept()

    async def group_infos(self, count: int) -> dict[str, Any]:
        """Prepare groupInfo requests, each with an encryption key of its own."""
        client, bodies = self._members[0].client, []
        for _ in range(count):
            keys = openmls.HpkeKeyPair.generate(ciphersuite=SUITE)
            fields: dict[str, Any] = {
                "cipher_suite": SUITE,
                "signature_key": client.signature_key,
                "credential": client.credential,
                "group_info_public_key": keys.public_key,
            }
            signed = GroupInfoRequestTBS(**fields).encode()
            signature = client.sign_with_label(label="GroupInfoRequestTBS", content=signed)
            bodies.append(GroupInfoRequest(**fields, signature=signature).encode())
        return self._prepared("groupInfo", bodies)

    async def connect(self, port: int, connections: int) -> dict[str, Any]:
        """Open connections with our certificate: no handshake is timed."""
        for _ in range(connections):
            client = httpx.AsyncClient(
                verify=self._trust,
                trust_env=False,
                timeout=PATIENCE,
                base_url=f"https://127.0.0.1:{port}",
                headers={"Host": HUB, "From": f"mimi@{name_of(0)}", "Content-Type": CONTENT_TYPE},
            )
            await client.get(DIRECTORY_PATH, extensions={"sni_hostname": HUB})
            self._clients.append(client)
        return {}

    async def disconnect(self) -> dict[str, Any]:
        """Close what ``connect`` opened."""
        while self._clients:
            await self._clients.pop().aclose()
        return {}

    async def send(self, expect: str) -> dict[str, Any]:
        """Send what was prepared, in order, over all connections at once; every answer is looked at."""
        durations: list[float] = []
        bodies = iter(self._bodies)
        check = _CHECKS[expect]

        async def one(client: httpx.AsyncClient) -> None:
            for body in bodies:
                began = time.monotonic()
                response = await client.post(self._path, content=body, extensions={"sni_hostname": HUB})
                durations.append(time.monotonic() - began)
                assert response.status_code in {OK, CREATED}, (response.status_code, response.text)
                check(response.content)

        cpu, began = cpu_seconds(), time.monotonic()
        async with trio.open_nursery() as nursery:
            for client in self._clients:
                nursery.start_soon(one, client)
        return {"wall": time.monotonic() - began, "cpu": cpu_seconds() - cpu, "durations": durations}

    async def reset(self) -> dict[str, Any]:
        """Forget what arrived."""
        self.inbox.reset()
        return {"cpu": cpu_seconds()}

    async def received(self, messages: int) -> dict[str, Any]:
        """Wait for so many messages, counted for each provider, then say what arrived since ``reset``."""
        await self.inbox.wait_for(messages)
        inbox = self.inbox
        return {
            "at": inbox.last,
            "requests": inbox.requests,
            "messages": inbox.messages,
            "bytes": inbox.bytes,
            "cpu": cpu_seconds(),
        }


def _partial(bundle: HandshakeBundle) -> HandshakeBundle:
    assert bundle.group_info is not None
    assert bundle.group_info.full is not None
    details = openmls.group_info_details(bundle.group_info.full)
    partial = PartialGroupInfo(
        ratchet_tree_presence=RatchetTreePresence.NO_RATCHET_TREE,
        group_info_extensions=details.extensions,
        signature=details.signature,
    )
    return replace(
        bundle,
        group_info=GroupInfoOption(partial=partial),
        ratchet_tree=RatchetTreeOption(representation=RatchetTreeRepresentation.DISTRIBUTION_SERVICE),
    )


def _submitted(body: bytes) -> None:
    assert SubmitMessageResponse.decode(body).code is SubmitResponseCode.ACCEPTED


def _updated(body: bytes) -> None:
    assert UpdateRoomResponse.decode(body).code is UpdateResponseCode.SUCCESS


def _some(body: bytes) -> None:
    assert body


_CHECKS: dict[str, Callable[[bytes], None]] = {"submitMessage": _submitted, "update": _updated, "any": _some}


async def main(certificate: Path, key: Path, ca: Path) -> None:
    telemetry.configure(logging.ERROR)
    trust = ssl.create_default_context(cafile=str(ca))
    trust.load_cert_chain(certificate, key)
    providers = Providers(trust)
    binding = Binding(
        address=Address(host="127.0.0.1", port=0),
        app=providers.inbox,
        tls=server_context(TlsConfig(certificate=certificate, key=key, trusted_ca=ca)),
    )
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(partial(serve_bindings, [binding], stop=trio.Event()))
        print(json.dumps({"port": address.port}), flush=True)
        while line := await trio.to_thread.run_sync(sys.stdin.buffer.readline):
            fields = json.loads(line)
            command: Callable[..., Awaitable[dict[str, Any]]] = getattr(providers, fields.pop("do"))
            print(json.dumps(await command(**fields)), flush=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, *map(Path, sys.argv[1:]))
