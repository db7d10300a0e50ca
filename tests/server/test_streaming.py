"""Answers without a known end, over real loopback sockets."""

from __future__ import annotations

import math
from functools import partial

import httpx
import pytest
import trio
import trustme
from trio.testing import MockClock

from linearized.config import TlsConfig
from linearized.server.app import build_app
from linearized.server.http import Request, Response, Route
from linearized.server.listener import serve_bindings
from linearized.server.streaming import PIECE_SECONDS, Ending, StreamResponse, write_stream

from .tls_support import PATIENCE, Authority, bind, serving


class Counting:
    """Gives ``first``, then what it is told to, or waits for ever; says when it is closed."""

    silence_seconds = math.inf
    heartbeat = b""

    def __init__(self, *first: bytes, then: bytes | None = b"") -> None:
        self._pieces = list(first)
        self._then = then
        self.waits = trio.Event()
        self.closed = trio.Event()

    async def read(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        if self._pieces:
            return self._pieces.pop(0)
        if self._then == b"":
            self.waits.set()
            await trio.sleep_forever()
        return self._then

    def close(self) -> None:
        self.closed.set()


def app_of(source: Counting) -> Route:
    async def handler(_request: Request) -> Response:
        return StreamResponse(content_type="text/plain", source=source)

    return Route("GET", "/", handler)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(trustme.CA(key_type=trustme.KeyType.ECDSA), tmp_path_factory.mktemp("ca"))
    made.ca.cert_pem.write_to_path(str(made.pem))
    return made


@pytest.fixture(scope="session")
def tls(authority: Authority) -> TlsConfig:
    return authority.issue("localhost", "127.0.0.1")


both = pytest.mark.parametrize("http2", [False, True])


@both
async def test_a_source_that_ends_ends_the_answer(authority: Authority, tls: TlsConfig, http2: bool) -> None:
    source = Counting(b"a" * 100_000, b"b", then=None)
    with trio.fail_after(PATIENCE):
        async with (
            serving(bind(tls, build_app([app_of(source)]))) as (address,),
            httpx.AsyncClient(http2=http2, verify=authority.client()) as client,
        ):
            answer = await client.get(f"https://{address}/")
            assert answer.content == b"a" * 100_000 + b"b"
            assert "content-length" not in answer.headers
            await source.closed.wait()


@both
async def test_a_piece_arrives_while_the_next_is_waited_for(
    authority: Authority, tls: TlsConfig, http2: bool
) -> None:
    source = Counting(b"one")
    with trio.fail_after(PATIENCE):
        async with serving(bind(tls, build_app([app_of(source)]))) as (address,):
            # httpx resets no stream of HTTP/2 that it leaves: it leaves by closing the connection.
            client = httpx.AsyncClient(http2=http2, verify=authority.client())
            async with client, trio.open_nursery() as nursery:
                arrived = trio.Event()

                async def read() -> None:
                    async with client.stream("GET", f"https://{address}/") as answer:
                        async for piece in answer.aiter_raw():
                            assert piece == b"one"
                            arrived.set()

                nursery.start_soon(read)
                await arrived.wait()
                assert not source.closed.is_set()
                nursery.cancel_scope.cancel()
            await source.closed.wait()


@both
async def test_a_server_that_stops_ends_its_streams_properly(
    authority: Authority, tls: TlsConfig, http2: bool
) -> None:
    source, stop = Counting(b"one"), trio.Event()
    app = build_app([app_of(source)])
    serve = partial(serve_bindings, [bind(tls, app)], stop=stop, grace_seconds=PATIENCE)
    with trio.fail_after(PATIENCE):
        client = httpx.AsyncClient(http2=http2, verify=authority.client())
        async with client, trio.open_nursery() as nursery:
            (address,) = await nursery.start(serve)

            async def stop_when_it_waits() -> None:
                await source.waits.wait()
                stop.set()

            nursery.start_soon(stop_when_it_waits)
            assert (await client.get(f"https://{address}/")).content == b"one"
        assert source.closed.is_set()


class Beating(Counting):
    """Beats when it has been silent for ten seconds."""

    silence_seconds = 10.0
    heartbeat = b"beat"

    def __init__(self, *first: bytes, every: float = 0) -> None:
        super().__init__(*first, then=b"")
        self._every, self._next = every, trio.current_time()

    async def read(self) -> bytes | None:
        if self._pieces:
            await trio.sleep_until(self._next + self._every)  # also if this is called again
            self._next += self._every
        return await super().read()


class Peer:
    """A client in memory; it takes ``room`` bytes at once, and the rest in so many ``seconds``."""

    def __init__(self, *, room: float = math.inf, seconds: float = 0) -> None:
        self.got: list[tuple[float, bytes]] = []
        self.left = trio.Event()
        self.dropped = False
        self._room = room
        self._seconds = seconds
        self._unsent = b""

    async def receive(self) -> dict[str, object]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    def send_now(self, piece: bytes) -> bool:
        assert not self._unsent, "what was begun comes first"
        taken = int(min(self._room, len(piece)))
        self._note(piece[:taken])
        self._unsent = piece[taken:]
        return not self._unsent

    async def send(self, message: dict[str, object]) -> None:
        await trio.sleep(self._seconds)
        body = message["body"]
        assert isinstance(body, bytes)
        self._note(self._unsent + body)
        self._unsent = b""

    def drop(self) -> None:
        self.dropped = True

    def _note(self, data: bytes) -> None:
        if data:
            self.got.append((trio.current_time(), data))


async def written(source: Counting, peer: Peer, ending: Ending, *, at_once: bool) -> int:
    return await write_stream(
        StreamResponse(content_type="text/plain", source=source),
        peer.receive,
        peer.send,
        ending=ending,
        drop=peer.drop,
        send_now=peer.send_now if at_once else None,
    )


at_once = pytest.mark.parametrize("at_once", [False, True])


@at_once
async def test_a_silence_is_counted_from_the_last_piece(autojump_clock: MockClock, at_once: bool) -> None:
    peer, ending, began = Peer(), Ending(), trio.current_time()
    source = Beating(b"a", b"b", b"c", every=6)
    with trio.move_on_after(45):
        await written(source, peer, ending, at_once=at_once)
    seconds = [(round(at - began), data) for at, data in peer.got]
    assert seconds == [(6, b"a"), (12, b"b"), (18, b"c"), (28, b"beat"), (38, b"beat")]


@at_once
async def test_an_end_falls_between_two_pieces(autojump_clock: MockClock, at_once: bool) -> None:
    peer, ending = Peer(seconds=3), Ending()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(written, Beating(b"a", b"b", every=5), peer, ending, at_once=at_once))
        await trio.sleep(6)  # the first piece is being written, or the second is waited for
        ending.end()
    assert [data for _, data in peer.got] == [b"a"]
    assert not peer.dropped


async def test_a_piece_that_comes_as_the_silence_ends_is_written(autojump_clock: MockClock) -> None:
    peer = Peer()
    source = Beating(b"just in time", b"and again", every=10)
    with trio.move_on_after(25):
        await written(source, peer, Ending(), at_once=True)
    said = [data for _, data in peer.got if data != b"beat"]
    assert said == [b"just in time", b"and again"]


async def test_what_a_socket_does_not_take_at_once_is_waited_for(autojump_clock: MockClock) -> None:
    peer = Peer(room=2, seconds=4)
    size = await written(Counting(b"abcdef", b"gh", b"ijk", then=None), peer, Ending(), at_once=True)
    assert [data for _, data in peer.got] == [b"ab", b"cdef", b"gh", b"ij", b"k"]
    assert size == 11


@at_once
async def test_who_does_not_take_a_piece_in_time_is_dropped(autojump_clock: MockClock, at_once: bool) -> None:
    peer, began = Peer(room=1, seconds=math.inf), trio.current_time()
    await written(Counting(b"abc"), peer, Ending(), at_once=at_once)
    assert peer.dropped
    assert trio.current_time() - began == pytest.approx(PIECE_SECONDS)


@at_once
async def test_who_leaves_is_told_nothing_more(autojump_clock: MockClock, at_once: bool) -> None:
    peer, source = Peer(), Counting(b"abc")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(written, source, peer, Ending(), at_once=at_once))
        await source.waits.wait()
        peer.left.set()
    assert [data for _, data in peer.got] == [b"abc"]
