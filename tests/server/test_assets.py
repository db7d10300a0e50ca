"""Files across providers: one gets those of providers one shares a room with; the hub is no open proxy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from linearized.client import ApiError, Joined, Session
from linearized.config import ProviderConfig
from linearized.server.app import App
from linearized.server.assets import asset_url
from linearized.server.http import Request, Response, Route
from linearized.store.base import MediaRow
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import received, shared_room, signed_in

PICTURE = bytes(range(256)) * 40


async def uploaded(session: Session) -> tuple[str, str]:
    """Server and media ID of a new file."""
    uri = await session.api.upload_media(PICTURE, content_type="image/png", filename="cat.png")
    server, _, media_id = uri.removeprefix("mxc://").partition("/")
    return server, media_id


async def status_of(session: Session, server: str, media_id: str) -> int:
    with pytest.raises(ApiError) as raised:
        await session.api.download_media(server, media_id)
    return raised.value.status


@pytest.mark.usefixtures("asked_once")
async def test_both_sides_of_a_room_get_each_others_files(tmp_path: Path) -> None:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        await shared_room(alice, bob)
        assert await bob.api.download_media(*await uploaded(alice)) == PICTURE
        assert await alice.api.download_media(*await uploaded(bob)) == PICTURE
        assert await status_of(bob, "a.example", "no_such_file") == 502


async def test_a_third_providers_file_comes_by_way_of_the_hub(tmp_path: Path) -> None:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        running_server("c.example", tmp_path, network) as c,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
        signed_in(c, await c.user("cathy")) as cathy,
    ):
        room_id = await shared_room(alice, bob)
        await alice.groups.invite(room_id, ["@cathy:c.example"])
        await received(cathy, Joined)
        network.log.clear()
        assert await bob.api.download_media(*await uploaded(cathy)) == PICTURE
        assert ("b.example", "c.example") not in {entry[:2] for entry in network.log}


async def test_without_a_shared_room_there_is_no_file(tmp_path: Path) -> None:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        assert await status_of(bob, *await uploaded(alice)) == 404
        assert not [entry for entry in network.log if "proxyDownload" in entry[3]]


async def proxied(server: Server, url: str, *, provider: str = "b.example") -> int:
    async with server.http() as http:
        http._transport = server.network.transport(provider)
        answer = await http.get(
            f"/_mimi/v1/proxyDownload/{quote(url, safe='')}", headers={"From": f"mimi@{provider}"}
        )
    return answer.status_code


FOREIGN = [
    "https://c.example/_matrix/client/v1/media/download/c.example/abc",
    "https://c.example/_matrix/client/v1/media/download/a.example/abc",
    "https://a.example/_matrix/client/v1/media/download/a.example/..%2Fsigning.key",
    "https://a.example/_matrix/client/v3/sync",
    "http://127.0.0.1/",
    "mxc://a.example/abc",
]


async def test_the_hub_fetches_nothing_but_files_of_its_peers(tmp_path: Path) -> None:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        running_server("c.example", tmp_path, network) as c,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        await c.node.store.put_media(
            MediaRow(
                media_id="abc", uploader="@c:c.example", content_type="", filename=None, size=0, created_ts=0
            )
        )
        await shared_room(alice, bob)
        network.log.clear()
        # B is a peer that may ask; what it asks for is of nobody that is one.
        for url in FOREIGN:
            assert await proxied(a, url) == 404, url
        assert {entry[1] for entry in network.log} <= {"a.example", "b.example"}
        assert not [entry for entry in network.log if entry[:2] == ("a.example", "c.example")]
        assert await proxied(a, asset_url("a.example", "abc"), provider="") == 401


async def test_a_provider_that_shares_no_room_with_us_gets_no_file(tmp_path: Path) -> None:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await shared_room(alice, bob)
        url = asset_url(*await uploaded(alice))
        assert await proxied(a, url) == 200
        assert await proxied(a, url, provider="c.example") == 404
        await alice.groups.remove_users(room_id, ["@bob:b.example"])
        assert await proxied(a, url) == 404


async def file(request: Request) -> Response:
    """Where another kind of provider keeps files, it hears nothing but that somebody wants one."""
    assert not {"from", "authorization", "cookie"} & set(request.headers)
    assert request.params == {"name": "cat .png"}
    return Response(body=PICTURE, content_type="image/png")


async def elsewhere(request: Request) -> Response:
    return Response(status=302, headers=(("location", "https://a.example/"),))


STORAGE = App([Route("GET", "/files/{name}", file), Route("GET", "/elsewhere", elsewhere)])


AT_FILES = [
    ("https://files.b.example/files/cat%20.png", 200),
    ("https://files.b.example/elsewhere", 502),  # a redirect is not followed
    ("http://files.b.example/files/cat%20.png", 404),
    ("https://bob@files.b.example/files/cat%20.png", 404),
    ("https://files.b.example:8443/files/cat%20.png", 404),
    ("https://files.b.example@c.example/files/cat%20.png", 404),
    ("https://[files.b.example/files/cat%20.png", 404),
    ("https://files.c.example/files/cat%20.png", 404),  # of a provider that follows no room of ours
    ("https://b.example/files/cat%20.png", 404),  # its domain is not where its files are
]


async def test_files_of_a_peer_lie_where_the_operator_says(tmp_path: Path) -> None:
    network = Network()
    hosts = {name: ProviderConfig(asset_hosts=(f"files.{name}",)) for name in ("b.example", "c.example")}
    for name in hosts:
        network.apps[f"files.{name}"] = STORAGE
    async with (
        running_server("a.example", tmp_path, network, providers=hosts) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        await shared_room(alice, bob)
        for url, status in AT_FILES:
            network.log.clear()
            assert await proxied(a, url) == status, url
            asked = [entry[1] for entry in network.log if entry[0] == "a.example" and entry[1] != "b.example"]
            assert asked == (["files.b.example"] if status != 404 else []), url


async def test_a_file_larger_than_any_here_is_not_fetched(tmp_path: Path) -> None:
    network = Network()
    network.apps["files.b.example"] = STORAGE
    hosts = {"b.example": ProviderConfig(asset_hosts=("files.b.example",))}
    async with (
        running_server("a.example", tmp_path, network, providers=hosts) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        await shared_room(alice, bob)
        theirs = asset_url(*await uploaded(bob))
        for room, status in ((len(PICTURE), 200), (len(PICTURE) - 1, 502)):
            limits = replace(a.node.config.limits, max_media_bytes=room)
            a.node.config = replace(a.node.config, limits=limits)
            for url in (theirs, "https://files.b.example/files/cat%20.png"):
                assert await proxied(a, url) == status, (url, room)
