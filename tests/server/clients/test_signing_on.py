"""Signing on with a homeserver's OpenID token."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import trio

from linearized.config import SignOnConfig
from linearized.protocol.canonical import JsonObject
from linearized.server.clients.signing_on import ANSWER_SECONDS, MAX_TOKEN, local_account
from linearized.server.exchange import OutboundError
from linearized.server.http import HttpError
from linearized.store.base import UserRow
from tests.server.clients.support import START_MS, V3, Answer, Server

HOMESERVER = "matrix.example"
TOKEN = {
    "access_token": "to/ken",
    "token_type": "Bearer",
    "matrix_server_name": HOMESERVER,
    "expires_in": 3600,
}
HERS = "@alice=40matrix.example:a.example"


@dataclass(slots=True)
class Homeserver:
    """Says what it is told to say of any token."""

    answer: JsonObject | Exception = field(default_factory=lambda: {"sub": "@alice:matrix.example"})
    seconds: float = 0.0
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def get_json(self, server: str, path: str, *, limit: int) -> JsonObject:
        """The answer, after its time."""
        self.asked.append((server, path))
        await trio.sleep(self.seconds)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def homeserver(server: Server) -> Homeserver:
    """A homeserver that the settings name."""
    server.node.config = replace(server.node.config, sign_on=SignOnConfig(homeservers=(HOMESERVER,)))
    made = Homeserver()
    server.node.federation = cast("Any", made)
    return made


async def sign_on(server: Server, **changed: Any) -> Answer:
    body = {"type": "dev.linearized.login.openid", **TOKEN, **changed}
    return await server.call("POST", f"{V3}/login", body)


async def test_a_homeservers_user_signs_on_and_comes_back(server: Server, homeserver: Homeserver) -> None:
    first = (await sign_on(server, device_id="PHONE")).ok()
    again = (await sign_on(server, device_id="LAPTOP", refresh_token=True)).ok()
    assert first["user_id"] == again["user_id"] == HERS
    assert "refresh_token" in again
    assert homeserver.asked[0] == (
        HOMESERVER, "/_matrix/federation/v1/openid/userinfo?access_token=to%2Fken"
    )  # fmt: skip
    answer = await server.call("GET", f"{V3}/account/whoami", token=first["access_token"])
    assert answer.ok() == {"user_id": HERS, "device_id": "PHONE", "is_guest": False}


async def test_the_way_is_listed_where_there_is_one(server: Server, homeserver: Homeserver) -> None:
    flows = (await server.call("GET", f"{V3}/login")).ok()["flows"]
    assert {"type": "dev.linearized.login.openid"} in flows
    server.node.config = replace(server.node.config, sign_on=SignOnConfig())
    flows = (await server.call("GET", f"{V3}/login")).ok()["flows"]
    assert {"type": "dev.linearized.login.openid"} not in flows


@pytest.mark.parametrize("name", ["other.example", "127.0.0.1", "matrix.example:8448", ""])
async def test_no_server_is_asked_that_the_settings_do_not_name(
    server: Server, homeserver: Homeserver, name: str
) -> None:
    (await sign_on(server, matrix_server_name=name)).refused(403, "M_FORBIDDEN")
    assert homeserver.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        {"sub": "@alice:other.example"},
        {"sub": "@alice:a.example"},
        {"sub": "alice"},
        {"sub": 7},
        {},
        OutboundError("expired", status=401, errcode="M_UNKNOWN_TOKEN"),
        OutboundError("no", status=403, errcode="M_FORBIDDEN"),
    ],
)
async def test_only_a_user_that_the_homeserver_vouches_for_signs_on(
    server: Server, homeserver: Homeserver, answer: JsonObject | Exception
) -> None:
    homeserver.answer = answer
    (await sign_on(server)).refused(403, "M_FORBIDDEN")
    assert server.store.user(HERS) is None


@pytest.mark.parametrize("answer", [OutboundError("nobody there"), OutboundError("broken", status=500)])
async def test_a_homeserver_that_is_down_is_said_to_be(
    server: Server, homeserver: Homeserver, answer: Exception
) -> None:
    homeserver.answer = answer
    (await sign_on(server)).refused(502, "M_UNKNOWN")
    assert server.store.user(HERS) is None


async def test_a_homeserver_is_waited_for_so_long(
    server: Server, homeserver: Homeserver, autojump_clock: trio.testing.MockClock
) -> None:
    homeserver.seconds = ANSWER_SECONDS + 1
    began = trio.current_time()
    (await sign_on(server)).refused(502, "M_UNKNOWN")
    assert trio.current_time() - began == ANSWER_SECONDS


@pytest.mark.parametrize(
    ("changed", "errcode"),
    [
        ({"access_token": None}, "M_BAD_JSON"),
        ({"access_token": "x" * (MAX_TOKEN + 1)}, "M_INVALID_PARAM"),
        ({"matrix_server_name": 1}, "M_BAD_JSON"),
        ({"token_type": "MAC"}, "M_BAD_JSON"),
    ],
)
async def test_what_is_no_token_is_refused(
    server: Server, homeserver: Homeserver, changed: Any, errcode: str
) -> None:
    (await sign_on(server, **changed)).refused(400, errcode)
    assert homeserver.asked == []


async def test_an_account_with_a_password_cannot_be_taken_over(
    server: Server, homeserver: Homeserver
) -> None:
    await server.store.put_user(UserRow(user_id=HERS, password_hash="x", created_ts=START_MS))
    (await sign_on(server)).refused(403, "M_FORBIDDEN")
    assert server.store.devices(HERS) == []


async def test_tokens_cannot_be_tried_without_end(server: Server, homeserver: Homeserver) -> None:
    homeserver.answer = OutboundError("no", status=401)
    statuses = [(await sign_on(server)).status for _ in range(12)]
    assert statuses == [403] * 10 + [429] * 2
    assert len(homeserver.asked) == 10


@pytest.mark.parametrize(
    ("user_id", "mapped"),
    [
        ("@alice:matrix.example", HERS),
        ("@al_ice:matrix.example", "@al__ice=40matrix.example:a.example"),
        ("@Al=ice:matrix.example", "@_al=3dice=40matrix.example:a.example"),
        ("@a+b/c:matrix.example:8448", "@a=2bb/c=40matrix.example=3a8448:a.example"),
    ],
)
def test_each_user_has_an_account_of_their_own(user_id: str, mapped: str) -> None:
    assert local_account(user_id, own_name="a.example") == mapped


def test_a_name_too_long_for_an_account_is_refused() -> None:
    with pytest.raises(HttpError) as caught:
        local_account("@" + "A" * 200 + ":matrix.example", own_name="a.example")
    assert (caught.value.status, caught.value.errcode) == (400, "M_INVALID_USERNAME")
