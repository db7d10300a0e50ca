"""Device objects of others: asked for by clients, and before a commit is refused for an old one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import orjson
import pytest
import trio

from linearized.protocol.canonical import JsonObject
from linearized.room.credentials import ClientIdentity
from linearized.room.submissions import Accepted, LocalEvent, NewEntry, OtherKeyPublished
from linearized.server import device_lists, remote_devices
from linearized.server.http import Response, json_response
from linearized.server.hub import Hub
from linearized.server.outbound import OutboundError
from tests.server.device_support import device_object, signer
from tests.server.federation.support import BOB, World, room, world
from tests.server.support import PASSWORD

PHONE = ClientIdentity(BOB, "PHONE")
OTHER = signer("another")


def held(w: World) -> dict[str, bytes]:
    return w.server.node.store.device_objects(BOB)


async def keep(w: World, said: JsonObject) -> None:
    await w.server.node.store.put_device_object(BOB, said["device_id"], orjson.dumps(said))


async def test_a_device_is_asked_for_and_what_it_says_is_kept(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        said = device_object(BOB)
        w.foreign.devices["PHONE"] = json_response({**said, "unsigned": {}})
        assert await remote_devices.ask(w.server.node, PHONE) is True
        assert orjson.loads(held(w)["PHONE"]) == said
        assert await remote_devices.ask(w.server.node, PHONE) is False, "it is no news any more"
        w.foreign.devices["PHONE"] = json_response(device_object(BOB, key=OTHER))
        assert await remote_devices.ask(w.server.node, PHONE) is True
        assert orjson.loads(held(w)["PHONE"]) == device_object(BOB, key=OTHER)


async def test_a_device_that_is_no_more_is_forgotten(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert await remote_devices.ask(w.server.node, PHONE) is False
        await keep(w, device_object(BOB))
        assert await remote_devices.ask(w.server.node, PHONE) is True
        assert held(w) == {}


@pytest.mark.parametrize(
    "answer",
    [
        json_response({}),
        json_response(device_object(BOB, "TV")),
        json_response(device_object(BOB) | {"signatures": {}}),
        json_response({"errcode": "M_FORBIDDEN", "error": "No"}, status=403),
        Response(body=b"[]"),
    ],
)
async def test_an_answer_that_is_no_device_changes_nothing(tmp_path: Path, answer: Response) -> None:
    async with world(tmp_path) as w:
        await keep(w, device_object(BOB))
        before = held(w)
        w.foreign.devices["PHONE"] = answer
        with pytest.raises(OutboundError):
            await remote_devices.ask(w.server.node, PHONE)
        assert held(w) == before


async def test_no_more_devices_of_a_user_are_kept_than_one_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_lists, "MAX_DEVICES", 1)
    async with world(tmp_path) as w:
        await keep(w, device_object(BOB, "TV"))
        w.foreign.devices["PHONE"] = json_response(device_object(BOB))
        assert await remote_devices.ask(w.server.node, PHONE) is False
        assert held(w).keys() == {"TV"}


# --- before a commit is refused ---


@dataclass
class Decisions:
    """A hub that refuses for a device until what is held of it is what it wants."""

    w: World
    client: ClientIdentity = PHONE
    wanted: JsonObject = field(default_factory=lambda: device_object(BOB))
    asked: int = 0

    async def submit_all(self, _room_id: str, submissions: list[Any]) -> list[Accepted | OtherKeyPublished]:
        await trio.lowlevel.checkpoint()
        self.asked += len(submissions)
        said = held(self.w).get("PHONE")
        if said is None or orjson.loads(said) != self.wanted:
            return [OtherKeyPublished(self.client) for _ in submissions]
        accepted = Accepted(entries=(), entry=cast("NewEntry", None), accepted_at=1)  # nobody looks at it
        return [accepted for _ in submissions]


async def decided(hub: Decisions) -> Accepted:
    event = LocalEvent(sender=BOB, type="m.mls.commit", content={})
    (outcome,) = await remote_devices.submit_all(
        hub.w.server.node, cast("Hub", hub), "!r:a.example", [(event, None)]
    )
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def test_a_commit_is_decided_again_when_its_device_has_said_something_new(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await keep(w, device_object(BOB, key=OTHER))
        w.foreign.devices["PHONE"] = json_response(device_object(BOB))
        hub = Decisions(w)
        assert await decided(hub)
        assert hub.asked == 2


@pytest.mark.parametrize("answers", [True, False])
async def test_a_commit_is_refused_when_its_device_says_the_same_or_nothing(
    tmp_path: Path, answers: bool
) -> None:
    async with world(tmp_path) as w:
        old = device_object(BOB, key=OTHER)
        await keep(w, old)
        w.foreign.devices["PHONE"] = json_response(old if answers else {})
        hub = Decisions(w)
        with pytest.raises(OtherKeyPublished):
            await decided(hub)
        assert hub.asked == 1


async def test_a_device_is_asked_once_for_each_commit_and_ours_are_not(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.foreign.devices["PHONE"] = json_response(device_object(BOB, key=OTHER))
        hub = Decisions(w)
        with pytest.raises(OtherKeyPublished):
            await decided(hub)
        assert hub.asked == 2
        ours = Decisions(w, client=ClientIdentity("@alice:a.example", "PHONE"))
        with pytest.raises(OtherKeyPublished):
            await decided(ours)
        assert ours.asked == 1


# --- keys/query ---


@dataclass
class Asking:
    """Alice, signed in, in a room with Bob of another server."""

    w: World
    http: httpx.AsyncClient
    headers: dict[str, str]

    async def query(self, wanted: dict[str, list[str]], **more: Any) -> tuple[JsonObject, JsonObject]:
        body = {"device_keys": wanted, **more}
        answer = await self.http.post("/_matrix/client/v3/keys/query", json=body, headers=self.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["device_keys"], answer.json()["failures"]


@asynccontextmanager
async def asking(directory: Path) -> AsyncIterator[Asking]:
    async with world(directory, alice=False) as w, w.server.http() as http:
        user_id = await w.server.user("alice")
        login = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": user_id},
            "password": PASSWORD,
        }
        token = (await http.post("/_matrix/client/v3/login", json=login)).json()["access_token"]
        await w.foreign.join(await room(w.server))
        yield Asking(w, http, {"Authorization": f"Bearer {token}"})


async def test_a_client_sees_what_the_devices_say_of_whom_it_meets(tmp_path: Path) -> None:
    async with asking(tmp_path) as alice:
        await keep(alice.w, device_object(BOB))
        found, failures = await alice.query({BOB: [], "@eve:c.example": []})
        assert found == {BOB: {"PHONE": device_object(BOB)}}
        assert failures.keys() == {"c.example"}
        assert failures["c.example"]["errcode"] == "M_NOT_FOUND"


async def test_a_device_that_is_named_and_not_known_is_asked_for(tmp_path: Path) -> None:
    async with asking(tmp_path) as alice:
        await keep(alice.w, device_object(BOB))
        alice.w.foreign.devices["TV"] = json_response(device_object(BOB, "TV"))
        found, failures = await alice.query({BOB: ["TV", "GONE"]})
        assert (found, failures) == ({BOB: {"TV": device_object(BOB, "TV")}}, {})


async def test_of_a_server_that_does_not_answer_what_is_known_is_told(tmp_path: Path) -> None:
    async with asking(tmp_path) as alice:
        await keep(alice.w, device_object(BOB))
        alice.w.network.down.add("b.example")
        found, failures = await alice.query({BOB: ["PHONE", "TV"]})
        assert found == {BOB: {"PHONE": device_object(BOB)}}
        assert failures.keys() == {"b.example"}


async def test_a_server_that_takes_too_long_is_a_failure(tmp_path: Path) -> None:
    async with asking(tmp_path) as alice:
        alice.w.foreign.devices["TV"] = None
        _, failures = await alice.query({BOB: ["TV"]}, timeout=1)
        assert failures == {
            "b.example": {"errcode": "M_UNKNOWN", "error": "b.example took too long to answer"}
        }


async def test_somebody_met_in_no_room_is_not_asked_about(tmp_path: Path) -> None:
    async with asking(tmp_path) as alice:
        await keep(alice.w, device_object(BOB))
        rooms = alice.w.server.node.store.rooms_of(BOB)
        await alice.w.foreign.send("1", alice.w.foreign.member(rooms[0].room_id, BOB, "leave"))
        found, failures = await alice.query({BOB: ["TV"]})
        assert found == {}
        assert failures.keys() == {"b.example"}
