"""Connections over sockets: what is written at once, what is waited for, and every way in which they end."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
import trustme

from linearized.server.wires import MAX_OWED_BYTES, PlainWire, TlsWire

LARGE = bytes(range(256)) * 40_000  # more than any socket holds
NAME = "hub.test"


def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    one, other = trio.socket.socketpair()
    return trio.SocketStream(one), trio.SocketStream(other)


async def read_to_end(stream: trio.abc.Stream) -> bytes:
    return b"".join([bytes(data) async for data in stream])


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert(NAME).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def shaken(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> AsyncIterator[tuple[TlsWire, TlsWire]]:
    """A client's and a server's end of one connection."""
    ours, theirs = socket_pair()
    client = TlsWire(ours, client_side, server_hostname=NAME)
    server = TlsWire(theirs, server_side)
    async with client, server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            nursery.start_soon(server.do_handshake)
        yield client, server


async def test_what_a_socket_does_not_take_at_once_is_written_before_anything_else(
    nursery: trio.Nursery,
) -> None:
    ours, theirs = socket_pair()
    async with theirs:
        wire = PlainWire(ours)
        await wire.wait_send_all_might_not_block()
        assert wire.write_now(b"first")
        assert not wire.write_now(LARGE)
        assert not wire.write_now(b"last")
        nursery.start_soon(wire.aclose)
        assert await read_to_end(theirs) == b"first" + LARGE + b"last"


async def test_a_wait_that_was_cancelled_goes_on_where_it_was(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = socket_pair()
    async with PlainWire(ours) as wire, theirs:
        assert not wire.write_now(LARGE)
        with trio.move_on_after(1) as waiting:
            await wire.drain()
        assert waiting.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.drain)
            got = b""
            while len(got) < len(LARGE):
                got += await theirs.receive_some()
        assert got == LARGE


async def test_two_tasks_cannot_write_or_read_at_once(
    nursery: trio.Nursery, server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    async with shaken(server_side, client_side) as (client, server):
        nursery.start_soon(client.send_all, LARGE)
        nursery.start_soon(client.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        for attempt in (client.drain, client.receive_some):
            with pytest.raises(trio.BusyResourceError):
                await attempt()
        with pytest.raises(trio.BusyResourceError):
            await client.send_all(b"more")
        await server.send_all(b"x")  # ends the read
        got = 0
        while got < len(LARGE):
            got += len(await server.receive_some())


async def test_a_connection_that_was_closed_here_is_not_written_to() -> None:
    ours, theirs = socket_pair()
    async with theirs:
        wire = PlainWire(ours)
        await wire.aclose()
        with pytest.raises(trio.ClosedResourceError):
            wire.write_now(b"x")
        await wire.aclose()


async def test_a_peer_that_left_breaks_the_connection() -> None:
    ours, theirs = socket_pair()
    await theirs.aclose()
    async with PlainWire(ours) as wire:
        with pytest.raises(trio.BrokenResourceError):
            await wire.send_all(b"x")


async def test_tls_carries_much_both_ways_at_once(
    nursery: trio.Nursery, server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    got: dict[str, bytes] = {}

    async def read(name: str, wire: TlsWire) -> None:
        parts = b""
        while len(parts) < len(LARGE):
            parts += await wire.receive_some()
        got[name] = parts

    async with shaken(server_side, client_side) as (client, server):
        assert client.selected_alpn_protocol() == server.selected_alpn_protocol() == "http/1.1"
        assert (client.getpeercert() or {})["subjectAltName"] == (("DNS", NAME),)
        assert server.getpeercert() is None
        async with trio.open_nursery() as talking:
            talking.start_soon(client.send_all, LARGE)
            talking.start_soon(server.send_all, LARGE)
            talking.start_soon(read, "client", client)
            talking.start_soon(read, "server", server)
    assert got == {"client": LARGE, "server": LARGE}


async def test_a_record_that_comes_byte_by_byte_is_one_piece(
    nursery: trio.Nursery, server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    async with shaken(server_side, client_side) as (client, server):
        between, theirs = socket_pair()
        ours, client.transport = client.transport, between
        async with ours, theirs:
            await client.send_all(b"in one")
            got: list[bytes] = []

            async def read() -> None:
                got.append(await server.receive_some())

            nursery.start_soon(read)
            for byte in await theirs.receive_some():
                await trio.testing.wait_all_tasks_blocked()
                assert not got
                await ours.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
            assert got == [b"in one"]


async def test_reading_less_than_has_come_leaves_the_rest(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    async with shaken(server_side, client_side) as (client, server):
        await client.send_all(b"abcdef")
        await client.send_all(b"ghi")
        assert [await server.receive_some(4) for _ in range(3)] == [b"abcd", b"efgh", b"i"]


@pytest.mark.parametrize("says_so", [True, False])
async def test_the_end_is_one_whether_tls_says_so_or_not(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext, *, says_so: bool
) -> None:
    async with shaken(server_side, client_side) as (client, server):
        await client.send_all(b"last")
        if says_so:
            await client.aclose()
        else:
            client.transport.socket.close()
        assert await server.receive_some() == b"last"
        assert await server.receive_some() == b""
        assert await server.receive_some() == b""


async def test_tls_that_has_ended_ends_a_connection_that_has_not(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    async with shaken(server_side, client_side) as (client, server):
        await client.send_all(b"last")
        with pytest.raises(ssl.SSLWantReadError):
            client._tls.unwrap()
        await client._flush()
        with trio.fail_after(10):
            assert await server.receive_some() == b"last"
            assert await server.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError, match="ended"):
            await client.send_all(b"more")


async def test_what_is_no_tls_breaks_the_connection(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    async with shaken(server_side, client_side) as (client, server):
        await client.send_all(b"good")
        await client.transport.send_all(b"GET / HTTP/1.1\r\n\r\n")
        assert await server.receive_some() == b"good"
        with pytest.raises(trio.BrokenResourceError, match="not TLS"):
            await server.receive_some()


async def test_a_reset_breaks_the_connection(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    async with shaken(server_side, client_side) as (client, server):
        await server.send_all(b"not read")
        client.transport.socket.close()
        with pytest.raises(trio.BrokenResourceError, match="broke"):
            await server.receive_some()


async def test_who_is_not_trusted_is_told_so(server_side: ssl.SSLContext) -> None:
    causes: list[str] = []

    async def shake(wire: TlsWire) -> None:
        async with wire:
            with pytest.raises(trio.BrokenResourceError) as refused:
                await wire.do_handshake()
            assert isinstance(refused.value.__cause__, ssl.SSLError)
            causes.append(refused.value.__cause__.reason)
            await trio.testing.wait_all_tasks_blocked()  # the other one reads first

    ours, theirs = socket_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake, TlsWire(ours, ssl.create_default_context(), server_hostname=NAME))
        nursery.start_soon(shake, TlsWire(theirs, server_side))
    assert causes == ["CERTIFICATE_VERIFY_FAILED", "TLSV1_ALERT_UNKNOWN_CA"]


async def test_who_leaves_while_shaking_hands_breaks_the_connection(server_side: ssl.SSLContext) -> None:
    ours, theirs = socket_pair()
    await ours.aclose()
    async with TlsWire(theirs, server_side) as wire:
        with pytest.raises(trio.BrokenResourceError, match="left"):
            await wire.do_handshake()


async def test_a_close_that_may_not_wait_closes(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    async with shaken(server_side, client_side) as (client, server):
        assert not server.write_now(LARGE)
        await trio.aclose_forcefully(server)
        with pytest.raises(trio.ClosedResourceError):
            await server.receive_some()
        await trio.aclose_forcefully(client)


async def test_who_asks_tls_for_much_and_reads_nothing_is_dropped(
    server_side: ssl.SSLContext, client_side: ssl.SSLContext
) -> None:
    async with shaken(server_side, client_side) as (client, server):
        server._outgoing.write(b"short")
        await client.send_all(b"1")
        assert await server.receive_some() == b"1"
        assert not server.write_now(LARGE)
        server._outgoing.write(bytes(MAX_OWED_BYTES))
        await client.send_all(b"2")
        assert await server.receive_some() == b"2"
        server._outgoing.write(b"x")
        await client.send_all(b"3")
        with pytest.raises(trio.BrokenResourceError, match="does not read"):
            await server.receive_some()
        await trio.aclose_forcefully(server)
