from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from bridges.matrix import provisioning
from bridges.matrix.config import load_bridge_config
from bridges.matrix.database import Database
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.provisioning import Provisioning, ProvisioningError
from linearized.client import transport
from linearized.exceptions import ConfigError
from tests.bridges.fake_homeserver import FakeHomeserver
from tests.bridges.support import ALICE, BOT, MATRIX_ROOM, PROVISIONING_TOKEN, World, open_world
from tests.bridges.test_config import settings
from tests.bridges.test_import import history

ROOMS = "/_linearized/bridge/v1/rooms"


async def ask(
    world: World, method: str, path: str = "", token: str | None = PROVISIONING_TOKEN
) -> tuple[int, Any]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=world.bridge.app)) as http:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        answer = await http.request(method, f"http://bridge{ROOMS}{path}", headers=headers)
        return answer.status_code, answer.json()


def room_path(name: str, act: str = "") -> str:
    return f"/{quote(name, safe='')}{act}"


async def test_a_room_is_bridged_listed_and_unbridged(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        room = history(world.homeserver, 3)
        room.aliases.add("#old:matrix.example")
        assert await ask(world, "GET") == (200, {"rooms": []})
        status, begun = await ask(world, "POST", room_path("#old:matrix.example", "/bridge"))
        assert (status, begun["matrix_room_id"], begun["phase"]) == (202, MATRIX_ROOM, "walking")
        world.homeserver.member(room, BOT, "invite", sender=ALICE)
        world.bridge.importing.add(MATRIX_ROOM)
        assert (await ask(world, "POST", room_path(MATRIX_ROOM, "/unbridge")))[0] == 409
        world.bridge.importing.clear()
        await world.bridge.import_room(MATRIX_ROOM)
        status, found = await ask(world, "GET", room_path(MATRIX_ROOM))
        assert (status, found["phase"], found["room_id"]) == (200, "live", world.room_id())
        assert found["importing"] is False
        assert found["last_aside"] == []
        assert await ask(world, "GET") == (200, {"rooms": [found]})
        # Asking again begins nothing.
        assert await ask(world, "POST", room_path(MATRIX_ROOM, "/bridge")) == (202, found)
        assert await ask(world, "POST", room_path(MATRIX_ROOM, "/unbridge")) == (200, {})
        assert room.members[BOT] == "leave"
        assert (await ask(world, "GET", room_path(MATRIX_ROOM)))[0] == 404


@pytest.mark.parametrize(
    ("request_line", "token", "refusal"),
    [
        (("GET", ""), None, (401, "M_MISSING_TOKEN")),
        (("GET", ""), "wrong", (403, "M_FORBIDDEN")),
        (("DELETE", ""), PROVISIONING_TOKEN, (405, "M_UNRECOGNIZED")),
        (("POST", "/../doubles/x"), PROVISIONING_TOKEN, (405, "M_UNRECOGNIZED")),
        (("GET", "/../doubles/x/y"), PROVISIONING_TOKEN, (404, "M_UNRECOGNIZED")),
        (("GET", "/x/bridge"), PROVISIONING_TOKEN, (405, "M_UNRECOGNIZED")),
        (("GET", "/x/y"), PROVISIONING_TOKEN, (404, "M_UNRECOGNIZED")),
        (("GET", "/x"), PROVISIONING_TOKEN, (404, "M_NOT_FOUND")),
        (("GET", room_path("#unknown:x")), PROVISIONING_TOKEN, (404, "M_NOT_FOUND")),
        (("POST", room_path("!unknown:x", "/unbridge")), PROVISIONING_TOKEN, (404, "M_NOT_FOUND")),
    ],
)
async def test_a_wrong_request_is_refused(
    tmp_path: Path, request_line: tuple[str, str], token: str | None, refusal: tuple[int, str]
) -> None:
    async with open_world(tmp_path) as world:
        status, body = await ask(world, *request_line, token)
        assert (status, body["errcode"]) == refusal


async def test_a_side_that_is_away_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_BACKOFF", 0.0)
    async with open_world(tmp_path) as world:
        await world.import_room(history(world.homeserver, 1))

        def away(when: str, request: httpx.Request) -> None:
            raise httpx.ConnectError("away")

        world.homeserver.fault = away
        status, body = await ask(world, "POST", room_path("#old:matrix.example", "/bridge"))
        assert (status, body["errcode"]) == (502, "M_UNKNOWN")
        status, body = await ask(world, "POST", room_path(MATRIX_ROOM, "/unbridge"))
        assert (status, body["errcode"]) == (502, "M_UNKNOWN")


async def test_requests_are_limited_and_guesses_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0

    async def nothing(*asked: object) -> Any:
        raise AssertionError(asked)

    monkeypatch.setattr(provisioning, "BURST", 2.0)
    database = Database(":memory:")
    async with FakeHomeserver().http() as http:
        api = Provisioning(
            token="r" * 40,
            database=database,
            homeserver=HomeserverApi("https://hs", token="t", http=http),
            seconds=lambda: now,
            begin=lambda room_id: None,
            unbridge=nothing,
            doubles=nothing,
            importing=set(),
        )
        for _ in range(2):
            with pytest.raises(ProvisioningError, match="Wrong token"):
                await api.answer("GET", ["rooms"], b"wrong", b"")
        with pytest.raises(ProvisioningError, match="Too many requests") as limited:
            await api.answer("GET", ["rooms"], b"r" * 40, b"")
        assert (limited.value.status, limited.value.errcode) == (429, "M_LIMIT_EXCEEDED")
        now += 0.2
        assert await api.answer("GET", ["rooms"], b"r" * 40, b"") == (200, {"rooms": []})
    database.close()


def test_without_a_token_it_is_off_and_with_a_weak_one_refused(tmp_path: Path) -> None:
    path = settings(tmp_path)
    assert load_bridge_config(path).provisioning_token is None
    path.write_text(path.read_text() + '\nprovisioning_token_file = "provisioning.token"\n')
    (tmp_path / "provisioning.token").write_text("short")
    with pytest.raises(ConfigError, match="provisioning_token_file"):
        load_bridge_config(path)
    (tmp_path / "provisioning.token").write_text(PROVISIONING_TOKEN)
    assert load_bridge_config(path).provisioning_token == PROVISIONING_TOKEN
