"""What servers see of minimal metadata rooms, on the wire and in what they write."""

from __future__ import annotations

import base64
import binascii
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx
import pytest

from linearized.client import (
    DecryptedMessage,
    IdentitiesShared,
    PseudonymousSession,
)
from tests.client.masks import ALICE, BOB, CAROL, names, pseudonym
from tests.client.support import drain, message
from tests.client.test_real_server import drain_until, new_room, open_club
from tests.server import support
from tests.server.support import Server


class Wire:
    """Everything that servers were told, and by whom: by server, of each request and answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.heard: dict[str, list[bytes]] = {}
        original = support._Wire.handle_async_request

        async def record(wire: Any, request: httpx.Request) -> httpx.Response:
            response = await original(wire, request)
            name, origin = request.headers["host"].partition(":")[0], wire._origin
            sent = [request.url.raw_path, await request.aread(), repr(request.headers).encode()]
            self.heard.setdefault(name, []).extend(sent)
            if origin:
                content = await response.aread()
                self.heard.setdefault(origin, []).append(content)
                return httpx.Response(
                    response.status_code, headers=response.headers, stream=httpx.ByteStream(content)
                )
            return response

        monkeypatch.setattr(support._Wire, "handle_async_request", record)


def stored(directory: Path, server: Server) -> Iterator[bytes]:
    """Every value in every table of a server's database."""
    (path,) = (directory / server.name).rglob("*.sqlite3")
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 - names from the schema
                yield from (value if isinstance(value, bytes) else str(value).encode() for value in row)


def unfolded(data: bytes, depth: int = 3) -> Iterator[bytes]:
    """Bytes, and whatever is in them in base64 or percent-encoding, and so on inside of that."""
    yield data
    yield unquote_to_bytes(data)
    if depth == 0:
        return
    for found in re.findall(rb"[A-Za-z0-9+/_-]{16,}", data):
        text = found.translate(bytes.maketrans(b"-_", b"+/"))
        for cut in range(4):
            try:
                inner = base64.b64decode(text[cut:] + b"=" * (-len(text[cut:]) % 4))
            except binascii.Error:
                continue
            if cut == 0:
                yield from unfolded(inner, depth - 1)
            else:
                yield inner


def known_to(directory: Path, server: Server, wire: Wire) -> set[str]:
    """The real names that a server was told or keeps."""
    everything = [*stored(directory, server), *wire.heard.get(server.name, [])]
    found = set()
    for name in (ALICE, BOB, CAROL):
        if any(name.encode() in inner for data in everything for inner in unfolded(data)):
            found.add(name)
    return found


async def _talk(alice: PseudonymousSession, bob: PseudonymousSession, carol: PseudonymousSession) -> str:
    room_id = await alice.create_minimal_room(handles=[bob.handle])
    await drain_until(bob, IdentitiesShared)
    await alice.add(room_id, [carol.handle])
    await drain_until(carol, IdentitiesShared)
    for sender in (alice, bob, carol):
        await drain(sender)
        await sender.send(room_id, message("hello"))
    await bob.groups.update_keys(room_id)
    await drain_until(alice, DecryptedMessage)
    await carol.step(2000)
    return room_id


async def test_no_server_learns_the_name_of_another_servers_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(monkeypatch)
    async with open_club(tmp_path) as club:
        a, b, c = [await club.server(f"{name}.example") for name in "abc"]
        alice, bob = await pseudonym(club, a, ALICE), await pseudonym(club, b, BOB)
        carol = await pseudonym(club, c, CAROL)
        room_id = await _talk(alice, bob, carol)
        everybody = {f"@{ALICE}:a.example", f"@{BOB}:b.example", f"@{CAROL}:c.example"}
        for session in (alice, bob, carol):
            assert set(await names(session, room_id)) == everybody
        # Each knows its own user, so the search does find names; and no other.
        assert known_to(tmp_path, a, wire) == {ALICE}
        assert known_to(tmp_path, b, wire) == {BOB}
        assert known_to(tmp_path, c, wire) == {CAROL}


async def test_in_any_other_room_the_hub_is_told_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = Wire(monkeypatch)
    async with open_club(tmp_path) as club:
        a, b = await club.server("a.example"), await club.server("b.example")
        alice, bob = await club.device(a, ALICE), await club.device(b, BOB)
        room_id = await new_room(alice)
        await alice.groups.invite(room_id, [bob.device.owner.user_id])
        assert known_to(tmp_path, a, wire) == {ALICE, BOB}
