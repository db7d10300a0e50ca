from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from bridges.matrix.doubles.provisioning import MAX_BODY, DoublesProvisioning
from bridges.matrix.names import Names
from bridges.matrix.provisioning import ProvisioningError
from linearized.client import transport
from tests.bridges.doubles.rig import TOKEN, URI, doubles_rig
from tests.bridges.fake_homeserver import DOMAIN
from tests.bridges.support import ALICE, CAROL, GHOST_BOB, PROVISIONING_TOKEN, open_world

NAMES = Names(domain=DOMAIN)


def body(**values: Any) -> bytes:
    return json.dumps(values).encode()


async def test_a_user_is_linked_looked_at_and_forgotten() -> None:
    async with doubles_rig() as rig:
        rig.homeserver.tokens[TOKEN] = CAROL
        api = DoublesProvisioning(rig.login, NAMES)
        say = (await api.answer("PUT", CAROL, body(access_token=TOKEN, uri=URI)))["say"]
        known = {"user_id": CAROL, "uri": URI, "linked": False, "token_works": True, "say": say}
        assert await api.answer("GET", CAROL, b"") == known
        assert await rig.hear(say)
        assert await api.answer("GET", CAROL, b"") == {**known, "linked": True, "say": None}
        rig.homeserver.tokens.clear()
        await rig.say("as the ghost")
        assert (await api.answer("GET", CAROL, b""))["token_works"] is False
        assert rig.told() == [], "there is no chat in which to tell it"
        rig.homeserver.tokens["user-carol-2"] = CAROL
        assert await api.answer("PUT", CAROL, body(access_token="user-carol-2")) == {"say": None}
        assert await api.answer("DELETE", CAROL, b"") == {}
        with pytest.raises(ProvisioningError, match="has given no token"):
            await api.answer("GET", CAROL, b"")


@pytest.mark.parametrize(
    ("user", "asked", "status", "errcode"),
    [
        (CAROL, b"{", 400, "M_NOT_JSON"),
        (CAROL, b"[]", 400, "M_BAD_JSON"),
        (CAROL, body(uri=URI), 400, "M_BAD_JSON"),
        (CAROL, body(access_token=7), 400, "M_BAD_JSON"),
        (CAROL, body(access_token=TOKEN, uri=7), 400, "M_BAD_JSON"),
        (CAROL, body(access_token="x" * MAX_BODY), 413, "M_TOO_LARGE"),
        (CAROL, body(access_token=TOKEN), 400, "M_INVALID_PARAM"),
        (ALICE, body(access_token=TOKEN, uri=URI), 400, "M_INVALID_PARAM"),
        (GHOST_BOB, body(access_token=TOKEN, uri=URI), 404, "M_NOT_FOUND"),
        ("alice", body(access_token=TOKEN, uri=URI), 404, "M_NOT_FOUND"),
    ],
)
async def test_a_wrong_request_is_refused(user: str, asked: bytes, status: int, errcode: str) -> None:
    async with doubles_rig() as rig:
        rig.homeserver.tokens[TOKEN] = CAROL
        with pytest.raises(ProvisioningError) as refused:
            await DoublesProvisioning(rig.login, NAMES).answer("PUT", user, asked)
        assert (refused.value.status, refused.value.errcode) == (status, errcode)
        assert TOKEN not in str(refused.value)
        assert rig.login.whoami(user) is None


async def test_a_homeserver_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_BACKOFF", 0.0)

    def away(when: str, request: httpx.Request) -> None:
        raise httpx.ConnectError(f"{when} {request.url}")

    async with doubles_rig() as rig:
        rig.homeserver.fault = away
        with pytest.raises(ProvisioningError) as refused:
            await DoublesProvisioning(rig.login, NAMES).answer(
                "PUT", CAROL, body(access_token=TOKEN, uri=URI)
            )
        assert (refused.value.status, refused.value.errcode) == (502, "M_UNKNOWN")


async def test_it_is_reached_over_http(tmp_path: Any) -> None:
    async with open_world(tmp_path) as world:
        world.homeserver.tokens[TOKEN] = CAROL
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=world.bridge.app)) as http:
            answer = await http.put(
                f"http://bridge/_linearized/bridge/v1/doubles/{quote(CAROL, safe='')}",
                content=body(access_token=TOKEN, uri=URI),
                headers={"Authorization": f"Bearer {PROVISIONING_TOKEN}"},
            )
        assert answer.status_code == 200
        assert CAROL in answer.json()["say"]
