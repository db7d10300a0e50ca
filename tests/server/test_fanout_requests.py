"""We as hub send fan-out requests: one for each message, in log order, and what an answer means."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing

from linearized.mimi.delivery_service import DSErrorCode
from linearized.mimi.fanout_requests import (
    DSFanoutError,
    DSFanoutRequest,
    DSFanoutResponse,
    DSFanoutResponseBody,
    DSFanoutResponseType,
)
from linearized.mimi.messages import message_role
from linearized.server.pauses import FIRST_PAUSE
from linearized.server.providers.client import FANOUT_REQUEST, NoEndpointError, ProviderError
from linearized.server.welcomes import provider_address
from linearized.store.pulling import FanoutTokenRow
from tests.room.support import BOB, NOW, ROOM, Member, grouped_room
from tests.server.deliveries import Peer, Setting, delivering, messages, mimi, quiet, roles, welcome
from tests.server.test_fanout import rows

TOKENS = tuple(
    FanoutTokenRow(client=f"mimi://b.example/d/bob/{name}", token=name.encode()) for name in ("PC", "PHONE")
)
TAKEN = DSFanoutResponse(response_body=DSFanoutResponseBody(response_type=DSFanoutResponseType.OK)).encode()


def refusal(code: DSErrorCode) -> bytes:
    body = DSFanoutResponseBody(response_type=DSFanoutResponseType.ERROR, error=DSFanoutError(code=code))
    return DSFanoutResponse(response_body=body).encode()


@dataclass
class Requested(Peer):
    """A provider that takes fan-out requests."""

    requests: list[tuple[float, DSFanoutRequest]] = field(default_factory=list)
    responses: list[bytes | ProviderError] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def exchange(self, provider: str, endpoint: str, target: str, body: bytes) -> bytes:
        assert (provider, endpoint, target) == ("b.example", FANOUT_REQUEST, "mimi://a.example/r/clubhouse")
        self.requests.append((trio.current_time(), DSFanoutRequest.decode(body)))
        await trio.lowlevel.checkpoint()
        response = self.responses.pop(0) if self.responses else TAKEN
        if isinstance(response, ProviderError):
            raise response
        return response

    @property
    def kinds(self) -> list[str]:
        return [message_role(request.mls_message) for _, request in self.requests]


@pytest.fixture
def peer() -> Requested:
    return Requested()


@pytest.fixture
async def setting(tmp_path: Path, peer: Requested) -> AsyncIterator[Setting]:
    async with delivering(tmp_path / "store.sqlite3", peer) as running:
        await running.room(mimi())
        await running.store.put_fanout_tokens(ROOM, "b.example", TOKENS)
        yield running


async def test_each_message_is_a_request_with_the_clients_and_their_tokens(
    setting: Setting, peer: Requested
) -> None:
    entries = messages(3)
    await setting.append_rows(entries)
    await quiet()
    assert peer.notified == []
    assert [request.timestamp for _, request in peer.requests] == [row.origin_server_ts for row in entries]
    for _, request in peer.requests:
        assert [one.client_id for one in request.recipient_ids] == [row.client for row in TOKENS]
        assert [one.token for one in request.fanout_auth_tokens] == [row.token for row in TOKENS]
    assert setting.cursor() == [3]


async def test_a_welcome_follows_its_commit_and_is_then_forgotten(setting: Setting, peer: Requested) -> None:
    room, alice, _ = grouped_room()
    added = room.submit(alice.add(Member(BOB)), now=NOW)
    entries = rows(added)
    await setting.append_rows(entries, welcome(added, seq=len(entries)))
    await quiet()
    assert peer.kinds == ["commit", "welcome"]
    assert peer.requests[1][1].ratchet_tree_option is not None
    assert not setting.store.to_device(provider_address("b.example"), ROOM, after=0, limit=9)


async def test_what_it_does_not_answer_is_sent_again_after_a_pause(
    setting: Setting, peer: Requested, autojump_clock: trio.testing.MockClock
) -> None:
    peer.responses = [TAKEN, ProviderError("down")]
    await setting.append_rows(messages(3))
    await trio.sleep(60)
    sent = [request.mls_message for _, request in peer.requests]
    assert sent[1] == sent[2]
    assert len(set(sent)) == 3
    assert peer.requests[2][0] - peer.requests[1][0] == pytest.approx(FIRST_PAUSE)
    assert setting.cursor() == [3]


@pytest.mark.parametrize("answer", [refusal(DSErrorCode.WRONG_EPOCH), refusal(DSErrorCode.MALFORMED), b"?"])
async def test_another_refusal_or_no_answer_at_all_is_met_by_a_pause_of_that_room(
    setting: Setting, peer: Requested, autojump_clock: trio.testing.MockClock, answer: bytes
) -> None:
    peer.responses = [answer]
    await setting.append_rows(messages(2))
    await trio.testing.wait_all_tasks_blocked()
    assert setting.cursor() == [0]
    assert setting.store.fanout_tokens(ROOM, "b.example") == list(TOKENS)
    await trio.sleep(60)
    assert len(peer.requests) == 3
    assert setting.cursor() == [2]
    assert peer.notified == []


@pytest.mark.parametrize(
    "answer",
    [
        refusal(DSErrorCode.NOT_ALLOWED),
        refusal(DSErrorCode.UNKNOWN_CLIENT),
        NoEndpointError("b.example offers no such endpoint"),
    ],
    ids=["token", "client", "no endpoint"],
)
async def test_tokens_that_it_does_not_take_are_forgotten_and_it_is_notified(
    setting: Setting, peer: Requested, answer: bytes | ProviderError
) -> None:
    peer.responses = [TAKEN, answer]
    await setting.append_rows(messages(3))
    await quiet()
    assert len(peer.requests) == 2
    assert setting.store.fanout_tokens(ROOM, "b.example") == []
    assert [roles(body) for *_, body in peer.notified] == [["application", "application"]]
    assert setting.cursor() == [3]


async def test_what_mimi_has_no_message_for_takes_no_request(setting: Setting, peer: Requested) -> None:
    await setting.append(250)
    await quiet()
    assert setting.cursor() == [250]
    assert peer.requests == []
