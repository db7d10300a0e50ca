"""The log as signed PDUs."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from linearized.protocol.events import parse_pdu
from linearized.protocol.verify import verify_event
from linearized.protocol.versions import get_version
from linearized.server.clients import log
from tests.server.clients.rows import append, entry, member, visibility
from tests.server.clients.support import MLS, Client, Server, room


async def page(client: Client, room_id: str, **query: Any) -> Any:
    return (await client.call("GET", f"{room(room_id, MLS)}/log", query=query)).ok()


async def test_the_log_can_be_verified_link_by_link(server: Server, alice: Client) -> None:
    room_id = await alice.create_room()
    (await alice.send(room_id, "hello", "t")).ok()
    version, previous, after = get_version("I.1"), None, 0
    key = server.node.identity.key
    while True:
        answer = await page(alice, room_id, after=after, limit=2)
        if not answer["pdus"]:
            break
        assert answer["first_seq"] == after + 1
        for pdu in answer["pdus"]:
            event = verify_event(
                parse_pdu(pdu, version),
                version=version,
                keys=lambda name, key_id: (
                    key.verify_key if (name, key_id) == ("a.example", key.key_id) else None
                ),
            )
            assert list(event.prev_events) == ([previous] if previous else [])
            previous = event.event_id
        after += len(answer["pdus"])
    assert after == answer["head_seq"]


async def test_pdus_go_out_byte_for_byte_as_stored(server: Server, alice: Client) -> None:
    room_id = await alice.create_room()
    answer = await alice.call("GET", f"{room(room_id, MLS)}/log")
    for stored in server.store.entries(room_id, after=0, limit=100):
        assert stored.pdu in answer.body
    assert orjson.loads(answer.body)["head_seq"] == len(answer.json["pdus"])


async def test_a_page_is_bounded_and_past_the_end_there_is_nothing(server: Server, alice: Client) -> None:
    await append(
        server.store,
        "!r:a",
        member("!r:a", 1, alice.user_id, "join"),
        *(entry("!r:a", n) for n in range(2, 61)),
    )
    assert len((await page(alice, "!r:a"))["pdus"]) == 50
    assert len((await page(alice, "!r:a", limit=10**6))["pdus"]) == 60
    assert await page(alice, "!r:a", after=60) == {"first_seq": 61, "head_seq": 60, "pdus": []}
    assert (await page(alice, "!r:a", after=10**15))["pdus"] == []


async def test_a_page_has_no_gap_where_the_caller_may_not_read(server: Server, bob: Client) -> None:
    await append(
        server.store,
        "!r:a",
        visibility("!r:a", 1, "joined"),
        entry("!r:a", 2),
        member("!r:a", 3, bob.user_id, "join"),
        entry("!r:a", 4),
    )
    first = await page(bob, "!r:a")
    assert (first["first_seq"], len(first["pdus"]), first["head_seq"]) == (1, 1, 4)
    second = await page(bob, "!r:a", after=1)
    assert (second["first_seq"], len(second["pdus"])) == (3, 2)


async def test_only_joined_users_read_the_log(alice: Client, bob: Client) -> None:
    room_id = await alice.create_room(invite=[bob.user_id])
    path = f"{room(room_id, MLS)}/log"
    (await bob.call("GET", path)).refused(403, "M_FORBIDDEN")
    (await bob.call("POST", f"{room(room_id)}/join", {})).ok()
    (await bob.call("GET", path)).ok()
    (await bob.call("POST", f"{room(room_id)}/leave", {})).ok()
    (await bob.call("GET", path)).refused(403, "M_FORBIDDEN")


@pytest.mark.parametrize("query", [{"after": "-1"}, {"after": "x"}, {"limit": "x"}])
async def test_a_malformed_request_is_refused(alice: Client, query: dict[str, str]) -> None:
    room_id = await alice.create_room()
    (await alice.call("GET", f"{room(room_id, MLS)}/log", query=query)).refused(400, "M_INVALID_PARAM")


async def test_a_page_of_huge_entries_is_cut_and_goes_on(
    server: Server, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "MAX_PAGE_BYTES", 150)
    await append(
        server.store,
        "!r:a",
        member("!r:a", 1, alice.user_id, "join"),
        *(entry("!r:a", n) for n in range(2, 12)),
    )
    after = 0
    while (answer := await page(alice, "!r:a", after=after))["pdus"]:
        assert answer["first_seq"] == after + 1
        assert len(answer["pdus"]) <= 2
        after += len(answer["pdus"])
    assert after == 11
