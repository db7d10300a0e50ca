"""Thumbnails of files here and elsewhere: made once, and refused where there can be none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from linearized.server import assets
from linearized.server.clients import thumbnailing as module
from linearized.server.clients.context import context_of
from linearized.server.clients.thumbnailing import WAIT_SECONDS
from linearized.server.thumbnails import thumbnail
from tests.server.clients.support import Answer, Client, Server
from tests.server.clients.test_media import upload
from tests.server.test_thumbnails import bomb, measured, picture

ASKED = {"width": "320", "height": "200"}


async def get(server: Server, client: Client, path: str, **query: str) -> Answer:
    return await server.call(
        "GET", f"/_matrix/client/v1/media/thumbnail/{path}", token=client.token, query={**ASKED, **query}
    )


async def test_a_thumbnail_is_made_once_and_kept(
    server: Server, alice: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await upload(server, alice, picture(1000, 500))
    first = await get(server, alice, path)
    assert (first.status, first.headers["content-type"]) == (200, "image/jpeg")
    assert first.headers["content-security-policy"].startswith("sandbox")
    assert measured(first.body) == ("JPEG", (320, 160))
    assert [file.read_bytes() for file in (tmp_path / "thumbnails").iterdir()] == [first.body]
    monkeypatch.setattr(module, "thumbnail", None)
    assert (await get(server, alice, path, width="100")).body == first.body


async def test_requests_for_the_same_one_make_it_once(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = await upload(server, alice, picture(1000, 500)), []

    def counted(*args: Any) -> bytes:
        made.append(args)
        return thumbnail(*args)

    monkeypatch.setattr(module, "thumbnail", counted)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(get, server, alice, path)
    assert len(made) == 1


async def test_each_way_is_one_of_its_own(server: Server, alice: Client) -> None:
    path = await upload(server, alice, picture(1000, 500))
    sizes = [measured((await get(server, alice, path, method=how)).body)[1] for how in ("crop", "scale")]
    assert sizes == [(320, 240), (320, 160)]


async def test_anothers_picture_is_fetched_and_not_kept(
    server: Server, alice: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fetched(*_: Any, **asked: str) -> bytes:
        assert asked == {"provider": "b.example", "media_id": "x"}
        return picture(1000, 500)

    monkeypatch.setattr(assets, "for_user", fetched)
    assert measured((await get(server, alice, "b.example/x")).body)[1] == (320, 160)
    assert not (tmp_path / "thumbnails").exists()


async def test_what_cannot_be_made_smaller_is_refused(server: Server, alice: Client, tmp_path: Path) -> None:
    text = await upload(server, alice, b"text", "text/plain")
    (await get(server, alice, text)).refused(400, "M_UNKNOWN")
    huge = await upload(server, alice, bomb(30_000, 30_000))
    (await get(server, alice, huge)).refused(413, "M_TOO_LARGE")
    assert not (tmp_path / "thumbnails").exists()


@pytest.mark.parametrize("path", ["a.example/none", "b.example/none", "a.example/..%2Fstore.sqlite3"])
async def test_there_is_none_of_a_file_that_is_not_there(server: Server, alice: Client, path: str) -> None:
    (await get(server, alice, path)).refused(404, "M_NOT_FOUND")


@pytest.mark.parametrize("query", [{"method": "x"}, {"width": "0"}, {"height": "-1"}, {"width": "x"}])
async def test_a_size_that_is_none_is_refused(server: Server, alice: Client, query: Any) -> None:
    path = await upload(server, alice, picture(10, 10))
    (await get(server, alice, path, **query)).refused(400, "M_INVALID_PARAM")


async def test_a_size_must_be_given(server: Server, alice: Client) -> None:
    path = f"/_matrix/client/v1/media/thumbnail/{await upload(server, alice, picture(10, 10))}"
    (await alice.call("GET", path, query={"width": 1})).refused(400, "M_MISSING_PARAM")


async def test_nobody_waits_for_ever_to_have_one_made(
    server: Server, alice: Client, autojump_clock: trio.testing.MockClock
) -> None:
    path = await upload(server, alice, picture(10, 10))
    began = trio.current_time()
    context_of(server.node).decoders.acquire_on_behalf_of_nowait("somebody else")
    (await get(server, alice, path)).refused(504, "M_UNKNOWN")
    assert trio.current_time() - began == WAIT_SECONDS
