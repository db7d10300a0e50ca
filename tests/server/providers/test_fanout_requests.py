"""Fan-out requests as they come in: from a hub for our clients, and from a follower that wants them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from linearized.mimi.delivery_service import ClientID, DSErrorCode
from linearized.mimi.fanout_requests import (
    DSFanoutRequest,
    DSFanoutResponse,
    DSFanoutResponseType,
    FanoutAuthToken,
    FanoutRegistration,
    issue_token,
)
from linearized.mimi.messages import FanoutMessage, decode_fanout_stream
from linearized.server.fanout_authorization import MAX_RECIPIENTS, token_secret
from linearized.server.providers.client import DIRECTORY_PATH, FANOUT_REQUEST, FANOUT_TOKENS
from linearized.server.providers.fanout_requests import MAX_TOKEN_BYTES
from linearized.store.base import RoomAppend
from linearized.store.pulling import FanoutTokenRow
from tests.mimi.support import PATH_COMMIT

from .support import Provider, World, world
from .test_notify import NOW, ROOM, URI, Hub, hub

PHONE = "mimi://a.example/d/alice/PHONE"


def request_for(
    h: Hub,
    fanned_out: bytes,
    *,
    client: str = PHONE,
    issued_for: str | None = None,
    hub_name: str = "b.example",
    expires_in: int = 1,
    copies: int = 1,
) -> bytes:
    """A hub's request with a token that we issued."""
    node = h.server.node
    token = issue_token(
        token_secret(node.identity.key),
        hub=hub_name,
        client=issued_for or client,
        expires_ms=node.clock() + expires_in * 60_000,
    )
    return DSFanoutRequest.of(
        FanoutMessage.decode(fanned_out),
        recipients=(ClientID(client_id=client),) * copies,
        tokens=(token,) * copies,
    ).encode()


async def send(h: Hub, body: bytes, *, provider: Provider | None = None, room: str = URI) -> DSFanoutResponse:
    answer = await (provider or h.other).ask("fanoutRequest", room, body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    return DSFanoutResponse.decode(answer.content)


async def taken(h: Hub, fanned_out: bytes) -> None:
    body = (await send(h, request_for(h, fanned_out))).response_body
    assert body.response_type is DSFanoutResponseType.OK, body


async def refused(h: Hub, code: DSErrorCode, body: bytes, **more: Any) -> None:
    before = h.server.node.store.entries(ROOM, after=0, limit=100)
    error = (await send(h, body, **more)).response_body.error
    assert error is not None
    assert error.code is code, error
    assert h.server.node.store.entries(ROOM, after=0, limit=100) == before


async def test_the_directory_lists_the_endpoints(tmp_path: Path) -> None:
    async with world(tmp_path, with_bob=False) as w, w.server.http() as client:
        directory = (await client.get(DIRECTORY_PATH)).json()
    assert directory[FANOUT_REQUEST] == "https://a.example/_mimi/v1/fanoutRequest/{roomId}"
    assert directory[FANOUT_TOKENS] == "https://a.example/_mimi/v1/fanoutTokens/{roomId}"


async def test_requests_of_a_hub_become_our_copy_of_the_log(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        for message in [*h.adding(h.alice), h.message(), h.commit(), h.message(b"again")]:
            await taken(h, message)
        assert [entry.type for entry in h.log()] == ["m.room.encrypted", "m.mls.commit", "m.room.encrypted"]
        assert [entry.origin_server_ts for entry in h.log()] == [NOW + 3, NOW + 4, NOW + 5]
        assert len(h.welcomes()) == 1


async def test_a_request_that_comes_again_is_taken_once(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        for message in [*h.adding(h.alice), h.message(), h.commit()]:
            for _ in range(2):
                await taken(h, message)
        assert [entry.type for entry in h.log()] == ["m.room.encrypted", "m.mls.commit"]
        assert len(h.welcomes()) == 1


async def test_it_may_come_after_a_notification_of_the_same_and_the_other_way_round(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        commit, welcome = h.adding(h.alice)
        first, second = h.message(b"one"), h.message(b"two")
        assert await h.notify(commit, welcome, first) == 201
        await taken(h, first)
        await taken(h, second)
        assert await h.notify(first, second) == 201
        assert len(h.log()) == 2


async def test_only_the_hub_of_the_room_may(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        for message in h.adding(h.alice):
            await taken(h, message)
        stranger = Provider("c.example", h.server.network)
        body = request_for(h, h.message(), hub_name="c.example")
        await refused(h, DSErrorCode.NOT_ALLOWED, body, provider=stranger)
        answer = await stranger.ask("fanoutRequest", URI, body, sender="mimi@b.example")
        assert answer.status_code == 401


async def test_once_the_room_has_moved_it_is_the_new_hub_that_may(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        for message in h.adding(h.alice):
            await taken(h, message)
        row = h.server.node.store.room(ROOM)
        assert row is not None
        await h.server.node.store.append(RoomAppend(room_id=ROOM, room=replace(row, hub="c.example")))
        message = h.message()
        await refused(h, DSErrorCode.NOT_ALLOWED, request_for(h, message))
        new = Provider("c.example", h.server.network)
        answer = await send(h, request_for(h, message, hub_name="c.example"), provider=new)
        assert answer.response_body.response_type is DSFanoutResponseType.OK
        assert len(h.log()) == 1


@pytest.mark.parametrize(
    "client",
    [
        "mimi://a.example/d/alice/TABLET",
        "mimi://a.example/d/nobody/PHONE",
        "mimi://b.example/d/bob/PHONE",
        "mimi://a.example/u/alice",
        "alice",
    ],
)
async def test_a_recipient_that_is_no_client_of_ours_is_refused(tmp_path: Path, client: str) -> None:
    async with hub(tmp_path) as h:
        for message in h.adding(h.alice):
            await taken(h, message)
        await refused(h, DSErrorCode.UNKNOWN_CLIENT, request_for(h, h.message(), client=client))


async def test_a_token_that_is_wrong_or_expired_or_anothers_is_refused(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        for message in h.adding(h.alice):
            await taken(h, message)
        message = h.message()
        code = DSErrorCode.NOT_ALLOWED
        await refused(h, code, request_for(h, message, expires_in=-1))
        await refused(h, code, request_for(h, message, issued_for="mimi://a.example/d/alice/TABLET"))
        await refused(h, code, request_for(h, message, hub_name="c.example"))
        wrong = DSFanoutRequest.of(
            FanoutMessage.decode(message),
            recipients=(ClientID(client_id=PHONE),),
            tokens=(FanoutAuthToken(token=b"let me in"),),
        )
        await refused(h, code, wrong.encode())
        await taken(h, message)


async def test_a_message_whose_predecessors_are_missing_is_refused(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        for message in [*h.adding(h.alice), h.commit()]:
            await taken(h, message)
        missing, early, next_commit = h.commit(), h.message(), h.commit()
        for message in (early, next_commit):
            await refused(h, DSErrorCode.WRONG_EPOCH, request_for(h, message))
        for message in (missing, early, next_commit):
            await taken(h, message)
        assert len(h.log()) == 4


async def test_a_second_commit_of_an_epoch_is_refused_and_a_late_message_is_not(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        for message in [*h.adding(h.alice), h.commit()]:
            await taken(h, message)
        rival = h.bob.joined().commit()
        h.bob.joined().clear_pending_commit()
        late = h.message()
        await taken(h, h.commit())
        await refused(h, DSErrorCode.WRONG_EPOCH, request_for(h, h.fan_out(rival.commit)))
        await taken(h, late)


async def test_a_malformed_request_or_one_for_too_many_is_refused(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        for message in h.adding(h.alice):
            await taken(h, message)
        body = request_for(h, h.message())
        for malformed in (b"", body[:-1], body + b"x", b"\2" + body[1:]):
            answer = await h.other.ask("fanoutRequest", URI, malformed)
            assert answer.status_code == 400
        await refused(h, DSErrorCode.TOO_LARGE, request_for(h, h.message(), copies=MAX_RECIPIENTS + 1))


async def test_a_message_that_only_frames_well_is_refused(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        for message in h.adding(h.alice):
            await taken(h, message)
        framed = FanoutMessage(timestamp=1, message=PATH_COMMIT).encode()
        await refused(h, DSErrorCode.MALFORMED, request_for(h, framed))


# --- a follower's tokens ---


def registration(*clients: str, token: bytes = b"token") -> bytes:
    return FanoutRegistration(
        recipient_ids=tuple(ClientID(client_id=client) for client in clients),
        fanout_auth_tokens=(FanoutAuthToken(token=token),) * len(clients),
    ).encode()


BOBS = ["mimi://b.example/d/bob/PHONE", "mimi://b.example/d/bob/TABLET"]


def kept(w: World, provider: str = "b.example") -> list[FanoutTokenRow]:
    return w.server.node.store.fanout_tokens(w.room_id, provider)


async def test_a_follower_registers_its_clients_and_takes_them_back(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert (await w.other.ask("fanoutTokens", w.uri, registration(*BOBS))).status_code == 204
        assert kept(w) == [FanoutTokenRow(client=client, token=b"token") for client in BOBS]
        assert (await w.other.ask("fanoutTokens", w.uri, registration(BOBS[0]))).status_code == 204
        assert kept(w) == [FanoutTokenRow(client=BOBS[0], token=b"token")]
        assert (await w.other.ask("fanoutTokens", w.uri, registration())).status_code == 204
        assert kept(w) == []


async def test_a_stranger_registers_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        stranger = Provider("c.example", w.server.network)
        body = registration("mimi://c.example/d/carol/PHONE")
        for room in (w.uri, "mimi://a.example/r/none"):
            answer = await stranger.ask("fanoutTokens", room, body)
            assert (answer.status_code, answer.json()["errcode"]) == (403, "M_FORBIDDEN")
        assert kept(w, "c.example") == []


@pytest.mark.parametrize(
    "body",
    [
        registration(BOBS[0], BOBS[0]),
        registration("mimi://a.example/d/alice/PHONE"),
        registration("bob"),
        registration(BOBS[0], token=bytes(MAX_TOKEN_BYTES + 1)),
        registration(*(f"mimi://b.example/d/bob/{n}" for n in range(MAX_RECIPIENTS + 1))),
        b"\2",
    ],
    ids=["twice", "ours", "no URI", "long token", "too many", "version"],
)
async def test_what_may_not_be_registered_is_refused_and_changes_nothing(tmp_path: Path, body: bytes) -> None:
    async with world(tmp_path) as w:
        assert (await w.other.ask("fanoutTokens", w.uri, registration(*BOBS))).status_code == 204
        assert (await w.other.ask("fanoutTokens", w.uri, body)).status_code == 400
        assert len(kept(w)) == 2


async def test_who_registered_gets_no_notifications_while_it_takes_requests(tmp_path: Path) -> None:
    async with world(tmp_path, store_in_thread=False) as w:
        await trio.testing.wait_all_tasks_blocked()
        w.other.notified.clear()
        assert (await w.other.ask("fanoutTokens", w.uri, registration(BOBS[0]))).status_code == 204
        await w.server.node.rooms.submit(w.room_id, w.alice.message())
        await w.commit()
        await trio.testing.wait_all_tasks_blocked()
        # This provider's directory has no such endpoint after all: it is notified, and nothing is lost.
        assert kept(w) == []
        messages = [message for body in w.other.notified for message in decode_fanout_stream(body)]
        assert len(messages) == 2
