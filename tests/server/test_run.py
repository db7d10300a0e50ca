"""A whole server over real sockets: started from its settings, asked, and stopped."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest
import structlog
import trio
import trustme

from linearized.config import Address, Config
from linearized.config_file import load_config
from linearized.config_template import default_config
from linearized.exceptions import ConfigError
from linearized.garbage import COLLECT_AFTER
from linearized.own_keys import load_signing_key
from linearized.protocol.signing import ServerIdentity, SigningKey
from linearized.server.opening import system_clock
from linearized.server.outbound import FederationClient, OutboundError
from linearized.server.run import SWITCH_SECONDS, Serving, serve

from .tls_support import Authority

PATIENCE = 30


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(trustme.CA(key_type=trustme.KeyType.ECDSA), tmp_path)
    made.ca.cert_pem.write_to_path(str(made.pem))
    return made


def settings(authority: Authority, name: str, directory: Path) -> Config:
    directory.mkdir(exist_ok=True)
    tls = authority.issue(name)
    path = directory / "linearized.toml"
    path.write_text(
        default_config(
            name,
            tls="127.0.0.1:0",
            client="127.0.0.1:0",
            certificate=str(tls.certificate),
            key=str(tls.key),
            trusted_ca=str(authority.pem),
        )
    )
    return replace(load_config(path), discovery_overrides={})


@pytest.fixture
def config(authority: Authority, tmp_path: Path) -> Config:
    return settings(authority, "a.example", tmp_path / "a")


@pytest.fixture
def fresh_logs() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


async def get(
    client: httpx.AsyncClient, address: Address, path: str, *, secure: bool = True
) -> httpx.Response:
    request = client.build_request(
        "GET",
        f"{'https' if secure else 'http'}://{address}{path}",
        headers={"Host": "a.example"},
        extensions={"sni_hostname": "a.example"},
    )
    return await client.send(request)


async def test_a_server_starts_answers_on_both_listeners_and_stops(
    authority: Authority, config: Config
) -> None:
    stop = trio.Event()
    with trio.fail_after(PATIENCE):
        async with (
            httpx.AsyncClient(http2=True, verify=authority.client()) as client,
            trio.open_nursery() as nursery,
        ):
            serving: Serving = await nursery.start(partial(serve, config, stop=stop))
            assert serving.client is not None
            keys = await get(client, serving.tls, "/_matrix/key/v2/server")
            assert keys.http_version == "HTTP/2"
            assert keys.json()["server_name"] == "a.example"
            directory = await get(client, serving.tls, "/.well-known/mimi-protocol-directory")
            assert directory.status_code == 200
            for address, secure in ((serving.tls, True), (serving.client, False)):
                health = await get(client, address, "/health", secure=secure)
                assert health.json() == {"status": "ok"}
                versions = await get(client, address, "/_matrix/client/versions", secure=secure)
                assert versions.headers["access-control-allow-origin"] == "*"
                place = await get(client, address, "/.well-known/matrix/client", secure=secure)
                assert place.json() == {"m.homeserver": {"base_url": "https://a.example:0"}}
            for path in ("/_matrix/key/v2/server", "/.well-known/mimi-protocol-directory"):
                hidden = await get(client, serving.client, path, secure=False)
                assert hidden.status_code == 404, "the plain listener serves clients alone"
            keys = await get(client, serving.client, "/_matrix/key/v2/query/a.example", secure=False)
            assert keys.json()["server_keys"][0]["server_name"] == "a.example", "what a client checks logs by"
            stop.set()


async def test_a_server_keeps_its_key_and_can_be_started_again(authority: Authority, config: Config) -> None:
    seen = []
    for _ in range(2):
        stop = trio.Event()
        with trio.fail_after(PATIENCE):
            async with (
                httpx.AsyncClient(verify=authority.client()) as client,
                trio.open_nursery() as nursery,
            ):
                serving: Serving = await nursery.start(partial(serve, config, stop=stop))
                seen.append((await get(client, serving.tls, "/_matrix/key/v2/server")).json()["verify_keys"])
                stop.set()
    assert seen[0] == seen[1]


@pytest.fixture
def own_interpreter() -> Iterator[None]:
    before = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(before[0])
    gc.set_threshold(*before[1])
    gc.unfreeze()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_server_which_has_logged_json(
    config: Config,
    number: signal.Signals,
    fresh_logs: None,
    own_interpreter: None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, config)
            os.kill(os.getpid(), number)
    logged = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    # The first keys of the oblivious gateway are made whenever there is time for it.
    lines = [line for line in logged if line["event"] != "gateway_keys_turned"]
    assert [line["event"] for line in lines] == ["listening", "stopping", "stopped"]
    assert lines[1]["signal"] == number.name
    assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS), "it has the process to itself"
    assert (gc.get_threshold(), gc.get_freeze_count() > 0) == (COLLECT_AFTER, True)


async def test_a_settings_file_without_its_certificate_does_not_start(config: Config) -> None:
    config.tls.certificate.unlink()
    with pytest.raises(ConfigError, match="cannot use certificate, key or trusted_ca"):
        await serve(config, stop=trio.Event())


async def test_two_servers_find_and_authenticate_each_other_over_mutual_tls(
    authority: Authority, config: Config, tmp_path: Path
) -> None:
    """The receiver of a signed request fetches the sender's keys from the sender, both over TLS."""
    addresses: dict[str, Address] = {}
    ours = replace(config, discovery_overrides=addresses)
    theirs = replace(settings(authority, "b.example", tmp_path / "b"), discovery_overrides=addresses)
    stop = trio.Event()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for one in (ours, theirs):
                serving: Serving = await nursery.start(partial(serve, one, stop=stop))
                addresses[one.server_name] = serving.tls
            identity = ServerIdentity("b.example", load_signing_key(theirs.data_dir))
            async with FederationClient(theirs, identity, clock=system_clock) as client:
                path = "/_matrix/federation/v2/send/1"
                answer = await client.request("a.example", "PUT", path, json={"pdus": []})
                assert answer == {"failed_pdus": {}}
                directory = await client.raw(
                    "a.example", "GET", "https://a.example/.well-known/mimi-protocol-directory"
                )
                assert directory.status == 200
            stranger = ServerIdentity("b.example", SigningKey.generate("x", b"x" * 32))
            async with FederationClient(theirs, stranger, clock=system_clock) as client:
                with pytest.raises(OutboundError, match="401"):
                    await client.request("a.example", "PUT", path, json={"pdus": []})
            stop.set()
