"""Stopping: what runs may finish, nothing new starts, and nobody can hold it up."""

from __future__ import annotations

from functools import partial

import httpx
import pytest
import trio
import trustme

from linearized.config import TlsConfig
from linearized.server.app import build_app
from linearized.server.http import Route
from linearized.server.listener import serve_bindings

from .tls_support import PATIENCE, Authority, Held, bind, until_refused, who


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(trustme.CA(key_type=trustme.KeyType.ECDSA), tmp_path_factory.mktemp("ca"))
    made.ca.cert_pem.write_to_path(str(made.pem))
    return made


@pytest.fixture(scope="session")
def tls(authority: Authority) -> TlsConfig:
    return authority.issue("localhost", "127.0.0.1")


async def test_a_request_while_stopping_is_refused(authority: Authority, tls: TlsConfig) -> None:
    held, stop = Held(), trio.Event()
    app = build_app([Route("GET", "/held", held), Route("GET", "/who/{x}", who)])
    serve = partial(serve_bindings, [bind(tls, app)], stop=stop, grace_seconds=PATIENCE)
    with trio.fail_after(PATIENCE):
        async with (
            httpx.AsyncClient(http2=True, verify=authority.client()) as client,
            trio.open_nursery() as nursery,
        ):
            (address,) = await nursery.start(serve)
            nursery.start_soon(client.get, f"https://{address}/held")
            await held.entered.wait()
            stop.set()
            await until_refused(address)
            late = await client.get(f"https://{address}/who/x")
            assert (late.status_code, late.json()["errcode"]) == (503, "M_UNKNOWN")
            held.go.set()


@pytest.mark.parametrize("http2", [False, True])
async def test_stopping_lets_requests_in_flight_finish(
    authority: Authority, tls: TlsConfig, http2: bool
) -> None:
    held, stop, answers = Held(), trio.Event(), []
    app = build_app([Route("GET", "/", held)])
    serve = partial(serve_bindings, [bind(tls, app)], stop=stop, grace_seconds=PATIENCE)
    with trio.fail_after(PATIENCE):
        client = httpx.AsyncClient(http2=http2, verify=authority.client())
        async with client, trio.open_nursery() as nursery:
            (address,) = await nursery.start(serve)

            async def ask() -> None:
                answers.append(await client.get(f"https://{address}/"))

            nursery.start_soon(ask)
            await held.entered.wait()
            stop.set()
            await until_refused(address)
            held.go.set()
    assert answers[0].json() == {"done": True}


async def test_stopping_does_not_wait_for_ever(authority: Authority, tls: TlsConfig) -> None:
    held, stop = Held(), trio.Event()
    app = build_app([Route("GET", "/", held)])
    serve = partial(serve_bindings, [bind(tls, app)], stop=stop, grace_seconds=0)
    with trio.fail_after(PATIENCE):
        async with httpx.AsyncClient(verify=authority.client()) as client, trio.open_nursery() as nursery:
            (address,) = await nursery.start(serve)

            async def ask() -> None:
                with pytest.raises(httpx.TransportError):
                    await client.get(f"https://{address}/")

            nursery.start_soon(ask)
            await held.entered.wait()
            stop.set()


async def test_an_idle_connection_does_not_hold_up_stopping(authority: Authority, tls: TlsConfig) -> None:
    stop = trio.Event()
    with trio.fail_after(PATIENCE):
        async with httpx.AsyncClient(verify=authority.client()) as client, trio.open_nursery() as nursery:
            serve = partial(serve_bindings, [bind(tls)], stop=stop, grace_seconds=10 * PATIENCE)
            (address,) = await nursery.start(serve)
            await client.get(f"https://{address}/who/x")
            stop.set()
