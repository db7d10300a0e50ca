"""Connections that are kept for requests that follow one another."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trio
import trustme

from linearized.config import Address, IPAddress
from linearized.server.connecting import Guard
from linearized.server.exchange import AnswerTooLarge, Outgoing
from linearized.server.http import Receive, Scope, Send
from linearized.server.serial_channel import SerialChannel

from .tls_support import Authority, bind, serving

CONNECT_SECONDS = 10
KEPT = 2


class Loopback:
    """Every host is this machine."""

    async def addresses(self, _host: str) -> list[IPAddress]:
        await trio.lowlevel.checkpoint()
        return [ipaddress.ip_address("127.0.0.1")]


class Server:
    """Answers with what it was sent, on connections that it tells apart."""

    def __init__(self) -> None:
        self.connections: list[object] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.gate: trio.Event | None = None
        self.break_off = False

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.connections.append(scope["client"])
        body = (await receive())["body"]
        if self.break_off:
            scope["abort"]()
            return
        if self.gate is not None:
            await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(trustme.CA(key_type=trustme.KeyType.ECDSA), tmp_path)
    made.ca.cert_pem.write_to_path(str(made.pem))
    return made


@asynccontextmanager
async def talking(
    authority: Authority,
    server: Server,
    *,
    keep_seconds: float = 60,
    connect_seconds: float = CONNECT_SECONDS,
) -> AsyncIterator[tuple[SerialChannel, Address]]:
    channel = SerialChannel(
        authority.client(),
        Guard(Loopback(), trusted=True),
        connect_seconds=connect_seconds,
        connections=KEPT,
        keep_seconds=keep_seconds,
    )
    async with serving(bind(authority.issue("a.example"), server.app)) as (address,):
        yield channel, address
        await channel.aclose()
        await channel.aclose()


def put(address: Address, body: bytes = b"{}") -> Outgoing:
    return Outgoing(
        method="PUT",
        address=address,
        tls_name="a.example",
        target="/x",
        headers={"Host": "a.example"},
        body=body,
    )


async def test_requests_that_follow_one_another_share_a_connection(authority: Authority) -> None:
    server = Server()
    async with talking(authority, server) as (channel, address):
        for number in range(3):
            reply = await channel.exchange(put(address, b"%d" % number), 10)
            assert (reply.status, reply.body) == (200, b"%d" % number)
    assert len(set(server.connections)) == 1


async def test_requests_at_the_same_time_do_not_and_as_many_are_kept_as_allowed(authority: Authority) -> None:
    server = Server()
    server.gate = trio.Event()
    async with talking(authority, server) as (channel, address):
        async with trio.open_nursery() as nursery:
            for _ in range(KEPT + 1):
                nursery.start_soon(channel.exchange, put(address), 10)
            while len(server.connections) <= KEPT:
                await trio.lowlevel.checkpoint()
            server.gate.set()
        assert len(set(server.connections)) == KEPT + 1
        for _ in range(KEPT + 2):
            await channel.exchange(put(address), 10)
    assert len(set(server.connections)) == KEPT + 1


async def test_a_connection_that_was_idle_for_too_long_is_not_used_again(authority: Authority) -> None:
    server = Server()
    async with talking(authority, server, keep_seconds=0) as (channel, address):
        for _ in range(2):
            await channel.exchange(put(address), 10)
    assert len(set(server.connections)) == 2


async def test_a_connection_the_server_has_closed_is_not_used_again(authority: Authority) -> None:
    server = Server()
    server.headers = [(b"connection", b"close")]
    async with talking(authority, server) as (channel, address):
        for _ in range(2):
            await channel.exchange(put(address), 10)
    assert len(set(server.connections)) == 2


async def test_each_address_has_connections_of_its_own(authority: Authority) -> None:
    one, two = Server(), Server()
    async with (
        talking(authority, one) as (channel, address),
        serving(bind(authority.issue("a.example"), two.app)) as (other,),
    ):
        for where in (address, other, address):
            await channel.exchange(put(where), 10)
        await channel.aclose()
    assert (len(one.connections), len(two.connections)) == (2, 1)


async def test_after_a_failure_the_next_request_finds_a_new_connection(authority: Authority) -> None:
    server = Server()
    async with talking(authority, server) as (channel, address):
        with pytest.raises(AnswerTooLarge):
            await channel.exchange(put(address, b"12345678901"), 10)
        server.break_off = True
        with pytest.raises(httpx.TransportError):
            await channel.exchange(put(address), 10)
        server.break_off = False
        assert (await channel.exchange(put(address), 10)).body == b"{}"


async def test_a_request_that_is_given_up_leaves_no_answer_to_the_next(authority: Authority) -> None:
    server = Server()
    server.gate = trio.Event()
    async with talking(authority, server) as (channel, address):
        with trio.move_on_after(10) as given_up:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.exchange, put(address, b"old"), 10)
                while not server.connections:
                    await trio.lowlevel.checkpoint()
                given_up.cancel()
        server.gate.set()
        assert (await channel.exchange(put(address, b"new"), 10)).body == b"new"
    assert len(set(server.connections)) == 2


async def test_a_server_that_is_not_there_cannot_be_connected_to(authority: Authority) -> None:
    async with talking(authority, Server()) as (channel, address):
        gone = Address(host=address.host, port=1)
        with pytest.raises(httpx.ConnectError):
            await channel.exchange(put(gone), 10)


async def test_a_server_that_proves_another_name_cannot_be_connected_to(authority: Authority) -> None:
    server = Server()
    async with talking(authority, server) as (channel, address):
        with pytest.raises(httpx.ConnectError):
            await channel.exchange(replace(put(address), tls_name="b.example"), 10)
    assert not server.connections


async def test_a_server_that_takes_too_long_to_connect_to_is_given_up(authority: Authority) -> None:
    server = Server()
    async with talking(authority, server, connect_seconds=0) as (channel, address):
        with pytest.raises(httpx.ConnectError, match="too long"):
            await channel.exchange(put(address), 10)
    assert not server.connections
