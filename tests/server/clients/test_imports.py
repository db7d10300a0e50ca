"""Importing a bridged room's past."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.clients.support import ENCRYPTED_ROOM, MLS, Answer, Client, Server, room


def event(source: str, **changes: Any) -> dict[str, Any]:
    return {
        "sender": "@carol:matrix.example",
        "type": "m.room.message",
        "content": {"msgtype": "m.text", "body": source},
        "origin_server_ts": 1_600_000_000_000,
        "source_event_id": source,
        **changes,
    }


@pytest.fixture
async def bridged(server: Server) -> str:
    return await server.bridge().create_room(room_version="dev.linearized.1", creation_content=ENCRYPTED_ROOM)


async def send(client: Client, room_id: str, *events: Any) -> Answer:
    return await client.call("POST", f"{room(room_id, MLS)}/import", {"events": list(events)})


async def test_history_keeps_its_senders_times_and_contents(server: Server, bridged: str) -> None:
    bot = server.bridge()
    name = event("$2", type="m.room.name", state_key="", content={"name": "Tea"})
    answer = (await send(bot, bridged, event("$1"), name)).ok()
    assert (answer["event_ids"].keys(), answer["failed"]) == ({"$1", "$2"}, {})
    page = (await bot.call("GET", f"{room(bridged)}/messages", query={"dir": "b", "limit": 2})).ok()["chunk"]
    assert [found["event_id"] for found in page] == [answer["event_ids"]["$2"], answer["event_ids"]["$1"]]
    assert page[1]["sender"] == "@carol:matrix.example"
    assert page[1]["origin_server_ts"] == 1_600_000_000_000
    assert page[1]["content"] == {"msgtype": "m.text", "body": "$1"}
    assert page[1]["provenance"] == {
        "protocol": "matrix",
        "provider": "matrix.example",
        "event_id": "$1",
        "imported": True,
    }
    assert page[0]["state_key"] == ""


async def test_an_event_is_imported_once_however_often_it_is_sent(server: Server, bridged: str) -> None:
    bot = server.bridge()
    first = (await send(bot, bridged, event("$1"), event("$2"))).ok()
    row = server.store.room(bridged)
    assert (await send(bot, bridged, event("$1"), event("$2"))).ok() == first
    assert (await send(bot, bridged, event("$1"), event("$1"))).ok()["event_ids"] == {
        "$1": first["event_ids"]["$1"]
    }
    assert server.store.room(bridged) == row


async def test_what_cannot_be_imported_is_named_with_its_reason_and_the_rest_goes_in(
    server: Server, bridged: str
) -> None:
    answer = (
        await send(
            server.bridge(),
            bridged,
            event("$1", sender="@eve:other.example"),
            event("$2", type="m.room.create", state_key=""),
            event("$3", sender="nobody"),
            event("$4", sender="@_bridge:a.example"),
            event("$5", content={"body": "x" * 70_000}),
            event("$6"),
        )
    ).ok()
    assert answer["event_ids"].keys() == {"$1", "$6"}
    assert answer["failed"].keys() == {"$2", "$3", "$4", "$5"}
    assert "a.example" in answer["failed"]["$4"]


async def test_only_a_bridge_in_the_room_imports(server: Server, alice: Client, bridged: str) -> None:
    (await send(alice, bridged, event("$1"))).refused(403, "M_FORBIDDEN")
    elsewhere = await alice.create_room()
    (await send(server.bridge(), elsewhere, event("$1"))).refused(403, "M_FORBIDDEN")


@pytest.mark.parametrize(
    "change",
    [
        {"sender": 1},
        {"type": None},
        {"content": None},
        {"content": []},
        {"origin_server_ts": "now"},
        {"origin_server_ts": -1},
        {"source_event_id": ""},
        {"state_key": 1},
    ],
)
async def test_a_malformed_event_refuses_the_page(
    server: Server, bridged: str, change: dict[str, Any]
) -> None:
    row = server.store.room(bridged)
    answer = await send(server.bridge(), bridged, event("$1"), {**event("$2"), **change})
    answer.refused(400, "M_BAD_JSON")
    assert server.store.room(bridged) == row


async def test_a_page_has_its_limits(server: Server, bridged: str) -> None:
    bot = server.bridge()
    (await send(bot, bridged, *(event(f"${number}") for number in range(51)))).refused(400, "M_INVALID_PARAM")
    (await send(bot, bridged, event("$" + "x" * 255))).refused(400, "M_INVALID_PARAM")
    (await bot.call("POST", f"{room(bridged, MLS)}/import", {})).refused(400, "M_BAD_JSON")
    (await bot.call("POST", f"{room(bridged, MLS)}/import", {"events": {}})).refused(400, "M_BAD_JSON")
    assert (await send(bot, bridged)).ok() == {"event_ids": {}, "failed": {}}
