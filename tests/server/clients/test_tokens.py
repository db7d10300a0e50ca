"""Sync and pagination tokens."""

from __future__ import annotations

import pytest

from linearized.server.clients.tokens import SyncToken, parse_place, parse_sync_token, place_token
from linearized.server.http import HttpError
from tests.server.clients.support import Client, Server

BAD = [
    "",
    "s",
    "s1",
    "s1_",
    "s_1",
    "s1_2_3",
    "s-1_0",
    "s01_0",
    "s1_00",
    " s1_0",
    "s1_0\n",
    "s\u0661_0",
    "x1_0",
    "s1e3_0",
]


@pytest.mark.parametrize("value", [*BAD, "s" + "9" * 19 + "_0"])
async def test_a_sync_token_is_ours_to_the_letter_or_refused(server: Server, value: str) -> None:
    with pytest.raises(HttpError) as caught:
        parse_sync_token(value, server.store)
    assert (caught.value.status, caught.value.errcode) == (400, "M_INVALID_PARAM")


async def test_a_sync_token_survives_the_trip(server: Server, alice: Client) -> None:
    await alice.create_room()
    token = SyncToken(position=1, to_device=7)
    assert parse_sync_token(str(token), server.store) == token


async def test_a_token_from_a_future_we_have_not_seen_is_refused(server: Server) -> None:
    with pytest.raises(HttpError, match="backup"):
        parse_sync_token("s1_0", server.store)


@pytest.mark.parametrize("value", ["t", "t-1", "t01", "t1 ", "1", "T1", *BAD])
async def test_a_place_is_ours_to_the_letter_or_refused(server: Server, value: str) -> None:
    with pytest.raises(HttpError) as caught:
        parse_place(value, store=server.store, room_id="!r:a.example")
    assert caught.value.errcode == "M_INVALID_PARAM"


async def test_a_place_survives_the_trip(server: Server) -> None:
    assert parse_place(place_token(42), store=server.store, room_id="!r:a.example") == 42


async def test_a_sync_token_is_a_place_after_what_that_sync_had_seen(server: Server, alice: Client) -> None:
    room_id = await alice.create_room()
    seen = (await alice.sync())["next_batch"]
    head = server.store.room(room_id)
    assert head is not None
    assert parse_place(seen, store=server.store, room_id=room_id) == head.head_seq
    await alice.send(room_id, "later", "1")
    assert parse_place(seen, store=server.store, room_id=room_id) == head.head_seq
