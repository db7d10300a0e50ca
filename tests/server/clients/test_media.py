"""Media: what goes in comes out, and nothing a browser would run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from linearized.server.clients import held_files, media
from linearized.server.whole_files import WholeFile, write_whole
from tests.server.clients.support import Answer, Client, Server

UPLOAD = "/_matrix/media/v3/upload"


async def upload(
    server: Server, client: Client, data: bytes, content_type: str = "image/png", **query: str
) -> str:
    headers = {"content-type": content_type}
    answer = await server.call("POST", UPLOAD, raw=data, token=client.token, headers=headers, query=query)
    uri: str = answer.ok()["content_uri"]
    assert uri.startswith("mxc://a.example/")
    return uri.removeprefix("mxc://")


async def download(server: Server, client: Client, path: str) -> Answer:
    return await server.call("GET", f"/_matrix/client/v1/media/download/{path}", token=client.token)


async def test_a_file_comes_back_byte_for_byte(
    server: Server, alice: Client, bob: Client, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 10
    path = await upload(server, alice, data)
    answer = await download(server, bob, path)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, data, "image/png")
    files = list((tmp_path / "media").iterdir())
    assert [file.read_bytes() for file in files] == [data]
    assert (tmp_path / "media").stat().st_mode & 0o077 == 0


async def test_a_download_is_harmless_in_a_browser(server: Server, alice: Client) -> None:
    page = await upload(server, alice, b"<script>", "text/html", filename="päge\r\n.html")
    headers = (await download(server, alice, page)).headers
    assert headers["content-disposition"] == "attachment; filename*=utf-8''p%C3%A4ge%0D%0A.html"
    assert headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("image/png", "inline"),
        ("text/plain; charset=utf-8", "inline"),
        ("image/svg+xml", "attachment"),
        ("application/pdf", "attachment"),
        ("nonsense", "attachment"),
        ("text/html;\u00e9", "attachment"),
    ],
)
async def test_only_what_cannot_run_is_shown_inline(
    server: Server, alice: Client, content_type: str, kind: str
) -> None:
    path = await upload(server, alice, b"x", content_type)
    answer = await download(server, alice, path)
    assert answer.headers["content-disposition"] == kind
    if "/" not in content_type:
        assert answer.headers["content-type"] == "application/octet-stream"


async def test_the_name_in_the_path_wins(server: Server, alice: Client) -> None:
    path = await upload(server, alice, b"x", filename="old.png")
    answer = await download(server, alice, f"{path}/new%20name.png")
    assert answer.headers["content-disposition"] == "inline; filename*=utf-8''new%20name.png"


async def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(
    server: Server, alice: Client, tmp_path: Path
) -> None:
    size = str(server.node.config.limits.max_media_bytes + 1)
    answer = await server.call("POST", UPLOAD, raw=b"x", token=alice.token, headers={"content-length": size})
    answer.refused(413, "M_TOO_LARGE")
    assert not (tmp_path / "media").exists()


async def test_a_file_without_a_declared_length_is_written_as_it_comes_and_leaves_nothing_if_too_large(
    server: Server, alice: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never whole in memory: pieces are on the disk before the last has come."""
    monkeypatch.setattr(media, "WRITE_BYTES", 10)
    folder = tmp_path / "media"
    limit = server.node.config.limits.max_media_bytes
    pieces = [b"0123456789", b"abc", b"x" * limit]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    written: list[int] = []
    write = WholeFile.write

    def counted(file: WholeFile, data: bytes) -> None:
        written.append(len(data))
        write(file, data)

    monkeypatch.setattr(WholeFile, "write", counted)
    answers: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": UPLOAD,
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {alice.token}".encode())],
    }
    await server.app(scope, receive, send)
    assert answers[0]["status"] == 413
    assert written == [10]
    assert list(folder.iterdir()) == []


async def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "media" / "taken"
    target.mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        write_whole(target, b"x")
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("filename", ["", "x" * 256])
async def test_a_file_name_has_its_limits(server: Server, alice: Client, filename: str) -> None:
    answer = await server.call("POST", UPLOAD, raw=b"x", token=alice.token, query={"filename": filename})
    answer.refused(400, "M_INVALID_PARAM")


@pytest.mark.parametrize(
    "path", ["b.example/abc", "a.example/unknown", "a.example/..%2Fstore.sqlite3", "a.example/%2E%2E"]
)
async def test_what_is_not_there_is_not_found(server: Server, alice: Client, path: str) -> None:
    (await download(server, alice, path)).refused(404, "M_NOT_FOUND")


async def test_a_file_that_vanished_is_not_found(server: Server, alice: Client, tmp_path: Path) -> None:
    path = await upload(server, alice, b"x")
    for file in (tmp_path / "media").iterdir():
        file.unlink()
    (await download(server, alice, path)).refused(404, "M_NOT_FOUND")


async def test_media_needs_a_token(server: Server, alice: Client) -> None:
    path = await upload(server, alice, b"x")
    answer = await server.call("GET", f"/_matrix/client/v1/media/download/{path}")
    answer.refused(401, "M_MISSING_TOKEN")
    (await server.call("POST", UPLOAD, raw=b"x")).refused(401, "M_MISSING_TOKEN")


async def test_the_limit_is_told(server: Server, alice: Client) -> None:
    answer = await server.call("GET", "/_matrix/client/v1/media/config", token=alice.token)
    assert answer.ok() == {"m.upload.size": server.node.config.limits.max_media_bytes}


async def test_who_waits_too_long_for_a_file_is_told_to_come_again(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(held_files, "ACCOUNT_BYTES", 100)
    path = "/_matrix/client/v1/media/download/" + await upload(server, alice, bytes(100))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(server.call, "GET", path, token=alice.token, writing=60))
        await trio.sleep(1)
        (await server.call("GET", path, token=alice.token)).refused(504, "M_UNKNOWN")
    assert (await server.call("GET", path, token=alice.token)).status == 200


async def test_a_file_that_is_not_there_takes_no_place(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_files, "WAIT_SECONDS", 0)
    monkeypatch.setattr(held_files, "ACCOUNT_BYTES", 0)
    for path in ("a.example/unknown", "b.example/unknown", "a.example/unknown"):
        (await download(server, alice, path)).refused(404, "M_NOT_FOUND")
