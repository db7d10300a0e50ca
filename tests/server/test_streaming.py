"""Answers without a known end, over real loopback sockets."""

from __future__ import annotations

from functools import partial

import httpx
import pytest
import trio
import trustme

from linearized.config import TlsConfig
from linearized.server.app import build_app
from linearized.server.http import Request, Response, Route
from linearized.server.listener import serve_bindings
from linearized.server.streaming import StreamResponse

from .tls_support import PATIENCE, Authority, bind, serving


class Counting:
    """Gives ``first``, then a piece whenever ``go`` is set anew; says when it is closed."""

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
