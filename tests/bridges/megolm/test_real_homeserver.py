"""Encrypted rooms of a real homeserver (Synapse), with a client that encrypts: what the fake
only imitates.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from bridges.matrix.checks import ENCRYPTED, Outcome
from bridges.matrix.config import BridgeConfig
from bridges.matrix.database import Database
from bridges.matrix.megolm import extensions
from bridges.matrix.parts import Environment
from bridges.matrix.process import listen
from bridges.matrix.registration import write_registration
from bridges.matrix.runner import Bridge
from linearized.client import Session
from linearized.demo.homeserver import SERVER_NAME, HomeserverFiles, MatrixUser, prepare, register
from linearized.demo.ports import free_ports
from linearized.demo.processes import ending
from linearized.demo.world import program
from linearized.exceptions import ConfigError
from tests.bridges.encrypting_client import EncryptingClient, JsonObject
from tests.bridges.test_live import body_of, heard
from tests.client.support import drain, message, wall_clock
from tests.client.test_real_server import Club
from tests.server.support import Server

PASSWORD = "alice has a password"
DEADLINE = 60.0
GHOST = f"@_lin_b.example_bob:{SERVER_NAME}"
BOT = f"@_lin_bot:{SERVER_NAME}"


def synapse() -> Path:
    try:
        return program("LINEARIZED_SYNAPSE_PYTHON", "synapse")
    except ConfigError as missing:
        if os.environ.get("LINEARIZED_PEERS_REQUIRED"):
            raise
        return pytest.skip(str(missing))


@dataclass
class Real:
    """The homeserver, a provider in memory, and a bridge between them that can be stopped and started."""

    config: BridgeConfig
    hub: Server
    bob: Session
    alice: EncryptingClient
    user: MatrixUser
    since: str = ""
    room_id: str = ""
    bridge: Bridge | None = None
    events: list[JsonObject] = field(default_factory=list)

    @asynccontextmanager
    async def bridging(self) -> AsyncIterator[Bridge]:
        """A bridge at work."""
        database = Database(self.config.database)
        try:
            async with (
                httpx.AsyncClient() as matrix,
                self.hub.http() as provider,
                trio.open_nursery() as nursery,
            ):
                environment = Environment(
                    homeserver=matrix,
                    provider=provider,
                    clock=wall_clock,
                    ids=secrets.token_urlsafe,
                    random=secrets.token_bytes,
                )
                bridge = self.bridge = Bridge(self.config, database, environment)
                await nursery.start(listen, bridge)
                with trio.fail_after(DEADLINE):
                    await bridge.start()
                nursery.start_soon(bridge.run)
                yield bridge
                nursery.cancel_scope.cancel()
        finally:
            database.close()

    async def sync(self) -> None:
        """Alice's phone reads what there is."""
        query = {"timeout": "200", **({"since": self.since} if self.since else {})}
        answer = await self.user.call("GET", "/sync", query=query)
        self.since = answer["next_batch"]
        self.alice.take(answer.get("to_device", {}).get("events", []))
        joined = answer.get("rooms", {}).get("join", {}).get(self.room_id, {})
        self.events += [
            {**event, "room_id": self.room_id} for event in joined.get("timeline", {}).get("events", [])
        ]

    async def hears(self, sender: str) -> JsonObject:
        """The content of the newest message of a sender that the phone can read."""
        with trio.fail_after(DEADLINE):
            while True:
                await self.sync()
                found = [e for e in self.events if e["sender"] == sender and "state_key" not in e]
                if found:
                    self.events.clear()
                    return self.alice.decrypt(found[-1])

    async def says(self, body: str) -> str:
        members = (await self.user.call("GET", f"/rooms/{self.room_id}/joined_members"))["joined"]
        await self.alice.share(self.room_id, members)
        content = self.alice.encrypt(self.room_id, "m.room.message", {"msgtype": "m.text", "body": body})
        return await self.user.send(self.room_id, "m.room.encrypted", content)


@asynccontextmanager
async def real_world(
    directory: Path, *, pushes_to_device: bool = True, pushes_counts: bool = True
) -> AsyncIterator[Real]:
    matrix_port, bridge_port = free_ports(2)
    async with AsyncExitStack() as stack:
        club = Club(directory, stack)
        hub = await club.server("a.example", bridged=(SERVER_NAME,))
        config = BridgeConfig(
            homeserver_url=f"http://127.0.0.1:{matrix_port}",
            homeserver_domain=SERVER_NAME,
            as_token=secrets.token_urlsafe(32),
            hs_token=secrets.token_urlsafe(32),
            provider_url="https://a.example",
            provider_domain="a.example",
            provider_token=hub.bridge_token,
            listen=f"127.0.0.1:{bridge_port}",
            url=f"http://127.0.0.1:{bridge_port}",
            database=directory / "bridge.sqlite",
        )
        registration = directory / "registration.yaml"
        write_registration(config, registration)
        files = HomeserverFiles(
            directory=directory / "synapse",
            port=matrix_port,
            python=synapse(),
            registrations=(registration,),
            shared_secret=secrets.token_urlsafe(24),
            pushes_to_device=pushes_to_device,
            pushes_counts=pushes_counts,
        )
        service = await prepare(files, directory / "synapse.log")
        await stack.enter_async_context(ending([service]))
        await service.start()
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=files.url))
        user = await register(http, files.shared_secret, "alice", PASSWORD)
        device = (await user.call("GET", "/account/whoami"))["device_id"]

        async def call(method: str, path: str, body: JsonObject | None) -> JsonObject:
            return await user.call(method, f"/{path}", body=body)

        alice = EncryptingClient(call, user.user_id, device)
        await alice.publish()
        bob = await club.device(await club.server("b.example"), "bob")
        yield Real(config, hub, bob, alice, user)


async def make_room(real: Real, **more: Any) -> None:
    """Alice makes an encrypted room and brings the bridge in."""
    encryption = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    body = {"preset": "private_chat", "initial_state": [encryption], "invite": [BOT], **more}
    real.room_id = (await real.user.call("POST", "/createRoom", body=body))["room_id"]


async def bring_bob(real: Real) -> Session:
    """Bob of another provider comes into the room."""
    bob = real.bob
    await real.user.call("POST", f"/rooms/{real.room_id}/invite", body={"user_id": GHOST})
    assert real.bridge is not None
    link = real.bridge.links.of_matrix(real.room_id)
    assert link is not None
    assert link.room_id is not None
    with trio.fail_after(DEADLINE):
        while not bob.device.in_group(link.room_id):
            await bob.step(500)
            await drain(bob)
    return bob


async def test_messages_cross_an_encrypted_room_of_a_real_homeserver_with_a_restart_between(
    tmp_path: Path,
) -> None:
    async with real_world(tmp_path) as real:
        async with real.bridging() as bridge:
            await make_room(real)
            # That the room is bridged is the first thing the bot says, encrypted.
            welcome = await real.hears(BOT)
            assert welcome["content"]["body"].startswith("This room is bridged")
            bob = await bring_bob(real)
            await real.says("from the phone")
            assert [body_of(item) for item in await heard(bob)] == ["from the phone"]
            link = bridge.links.of_matrix(real.room_id)
            assert link is not None
            room_id = link.room_id or ""
            await bob.send(room_id, message("from elsewhere"))
            assert (await real.hears(GHOST))["content"]["body"] == "from elsewhere"
        # While the bridge is away, its device gets a new key that is pushed nowhere.
        real.alice.outbound.clear()
        await real.says("while you were away")
        async with real.bridging():
            assert [body_of(item) for item in await heard(bob)] == ["while you were away"]
            await bob.send(room_id, message("still here"))
            assert (await real.hears(GHOST))["content"]["body"] == "still here"
            keys = await real.user.call("POST", "/keys/query", body={"device_keys": {BOT: [], GHOST: []}})
        for user in (BOT, GHOST):
            ((device_id, device),) = keys["device_keys"][user].items()
            identity = keys["self_signing_keys"][user]["keys"]
            (key,) = identity.values()
            assert set(device["signatures"][user]) == {f"ed25519:{device_id}", f"ed25519:{key}"}


@pytest.mark.parametrize(
    ("features", "missing"),
    [({"pushes_to_device": False}, "MSC2409"), ({"pushes_counts": False}, "MSC3202")],
)
async def test_a_real_homeserver_without_what_encrypted_rooms_need_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, features: dict[str, bool], missing: str
) -> None:
    monkeypatch.setattr(extensions, "PROBE_DEADLINE", 5.0)
    async with real_world(tmp_path, **features) as real, real.bridging() as bridge:
        check = (await bridge.check())[-1]
        assert (check.name, check.outcome) == (ENCRYPTED, Outcome.SKIPPED)
        assert missing in check.found
