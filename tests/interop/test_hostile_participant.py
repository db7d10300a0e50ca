"""A participant that lies, replays and overdoes it: the hub's log holds only what was honestly sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import trio
import trio.testing

from linearized.protocol.base64 import encode_base64
from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.hashing import event_id, lpdu_hash
from linearized.room.algorithms import key_package_algorithm
from linearized.server.xmatrix import sign_request
from linearized.store.base import DeviceRow, KeyPackageRow
from tests.server.federation.schemas import check
from tests.server.federation.support import (
    ALICE,
    BOB,
    FINAL,
    UNSTABLE,
    V1,
    Foreign,
    World,
    event_of,
    room,
    world,
)

CAROL = "@carol:c.example"
NOTE = "org.example.note"
PATIENCE = 10


@dataclass
class Scene(World):
    """A room of a.example with Bob of the hostile b.example and Carol of the honest c.example."""

    honest: Foreign
    room_id: str

    def note(self, text: str, *, by: Foreign | None = None, **more: Any) -> JsonObject:
        server = by or self.foreign
        sender = CAROL if server is self.honest else BOB
        return server.lpdu(self.room_id, sender, NOTE, {"text": text}, **more)

    @property
    def notes(self) -> list[str]:
        entries = self.server.node.store.entries(self.room_id, after=0, limit=1000)
        return [orjson.loads(e.pdu)["content"].get("text", "-") for e in entries if e.type == NOTE]

    async def refused(self, txn: str, *pdus: JsonObject) -> None:
        """Send events none of which may be appended: named if they are rejected, not if they are dropped."""
        before = self.server.node.store.rooms()
        answer = await self.foreign.send(txn, *pdus)
        assert answer.status == 200, answer
        check("transaction.response", answer.body)
        assert len(answer.body["failed_pdus"]) <= len(pdus)
        assert self.server.node.store.rooms() == before

    async def delivered(self, server: Foreign, count: int) -> list[JsonObject]:
        with trio.fail_after(PATIENCE):
            while len(server.received) < count:
                await trio.testing.wait_all_tasks_blocked(0.01)
        return server.received


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    async with world(directory) as w:
        honest = Foreign("c.example", w.network)
        room_id = await room(w.server)
        await w.foreign.join(room_id)
        await honest.join(room_id, CAROL)
        yield Scene(w.server, w.foreign, w.network, honest, room_id)


async def test_another_servers_event_cannot_be_forged(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        in_her_name = s.foreign.lpdu(s.room_id, CAROL, NOTE, {"text": "forged"})
        with_her_signature = {**in_her_name, "signatures": {"c.example": {"ed25519:f": "A" * 86}}}
        both = {
            **in_her_name,
            "signatures": {**in_her_name["signatures"], **s.note("x", by=s.honest)["signatures"]},
        }
        of_the_hub = {**s.note("forged"), "sender": ALICE}
        # One event ID stands for an event whatever its signatures, so each goes alone.
        for number, forged in enumerate((in_her_name, with_her_signature, both, of_the_hub)):
            await s.refused(str(number), forged)
        assert s.notes == []


async def test_another_servers_event_cannot_be_sent_again_in_its_name(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.honest.send("1", s.note("once", by=s.honest))
        await s.delivered(s.foreign, 3)
        echoed = next(pdu for pdu in s.foreign.received if pdu["type"] == NOTE)
        reduced = {key: value for key, value in echoed.items() if key not in {"auth_events", "prev_events"}}
        reduced["hashes"] = {"lpdu": echoed["hashes"]["lpdu"]}
        reduced["signatures"] = {"c.example": echoed["signatures"]["c.example"]}
        assert lpdu_hash(reduced, V1) == echoed["hashes"]["lpdu"]["sha256"]
        # It is remembered as hers, so that nothing is appended, whoever asks.
        answer = await s.foreign.send("2", reduced)
        assert s.notes == ["once"]
        await s.refused("3", {**reduced, "origin_server_ts": 2})
        assert answer.status == 200
        assert s.notes == ["once"]


async def test_ones_own_event_sent_again_is_the_same_event(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        lpdu = s.note("mine")
        for txn in ("1", "2", "3"):
            assert (await s.foreign.send(txn, lpdu, lpdu)).body == {"failed_pdus": {}}
        assert s.notes == ["mine"]


async def test_the_hubs_order_cannot_be_chosen(tmp_path: Path) -> None:
    """What only a hub adds makes an event a PDU, and for those it is the hub itself that is asked."""
    async with scene(tmp_path) as s:
        first = s.server.node.store.entries(s.room_id, after=0, limit=1)[0]
        chosen = {**s.note("first!"), "prev_events": [first.event_id], "auth_events": [first.event_id]}
        only_prev = {**s.note("second!"), "prev_events": []}
        own_hash = s.note("third!")
        own_hash["hashes"]["sha256"] = encode_base64(bytes(32))
        another_hub = s.note("fourth!", hub_server="b.example")
        without_hub = {key: value for key, value in s.note("fifth!").items() if key != "hub_server"}
        await s.refused("1", chosen, only_prev, own_hash, another_hub, without_hub)
        assert s.notes == []


async def test_a_captured_request_is_answered_once_more_and_does_nothing_more(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        path, body = f"{UNSTABLE}/send/7", {"pdus": [s.note("captured")]}
        authorization = sign_request(
            s.foreign.identity, destination="a.example", method="PUT", uri=path, content=body
        )
        async with httpx.AsyncClient(transport=s.network.transport("")) as thief:

            async def put(target: str, content: JsonObject) -> httpx.Response:
                return await thief.put(
                    f"https://a.example{target}",
                    content=canonical_json(content),
                    headers={"Authorization": authorization},
                )

            answers = [await put(path, body) for _ in range(3)]
            assert [answer.json() for answer in answers] == [{"failed_pdus": {}}] * 3
            assert (await put(f"{UNSTABLE}/send/8", body)).status_code == 401
            assert (await put(path, {"pdus": []})).status_code == 401
        assert s.notes == ["captured"]


def nested(depth: int) -> JsonObject:
    value: JsonObject = {}
    for _ in range(depth):
        value = {"a": value}
    return value


async def test_events_of_any_size_and_shape_cost_their_neighbours_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        good = [s.note(f"good {number}") for number in range(3)]
        large = {**s.note("x"), "content": {"text": "x" * 70_000}}
        deep = {**s.note("x"), "content": nested(120)}
        odd: list[JsonObject] = [
            {**s.note("x"), "content": "text"},
            {**s.note("x"), "type": "t" * 300},
            {**s.note("x"), "state_key": "s" * 300},
            {**s.note("x"), "sender": "bob"},
            {**s.note("x"), "origin_server_ts": "now"},
            {**s.note("x"), "origin_server_ts": -(2**53) + 1, "hashes": []},
            {**s.note("x"), "signatures": {"b.example": {f"ed25519:{n}": "A" * 86 for n in range(50)}}},
            {**s.note("x"), "signatures": {"b.example": {"ed25519:f": 5}}},
            {**s.note("x"), "hub_server": ["a.example"]},
        ]
        answer = await s.foreign.send("1", good[0], large, good[1], deep, *odd, good[2])
        assert answer.status == 200
        assert s.notes == ["good 0", "good 1", "good 2"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"pdus": [' + b"[" * 500 + b"]" * 500 + b"]}",
        b'{"pdus": [{"content": {"n": 1.5}}]}',
        b'{"pdus": [{"content": {"n": 18446744073709551616}}]}',
        b'{"pdus": [{"content": {"\\ud800": 1}}]}',
        b'{"pdus": [' + b"{}," * 50 + b"{}]}",
        b'{"edus": [' + b"{}," * 100 + b"{}]}",
    ],
)
async def test_a_transaction_of_odd_json_is_refused_whole(tmp_path: Path, content: bytes) -> None:
    async with scene(tmp_path) as s:
        before = s.server.node.store.rooms()
        path = f"{UNSTABLE}/send/odd"
        async with httpx.AsyncClient(transport=s.network.transport("b.example")) as client:
            authorization = sign_request(
                s.foreign.identity, destination="a.example", method="PUT", uri=path, content={}
            )
            answer = await client.put(
                f"https://a.example{path}", content=content, headers={"Authorization": authorization}
            )
        assert answer.status_code in {400, 401}
        assert s.server.node.store.rooms() == before


async def test_of_two_joins_under_one_transaction_id_each_is_its_own_event(tmp_path: Path) -> None:
    """Equivocation: the same transaction ID for two different joins. Both servers see both, in one order."""
    async with scene(tmp_path) as s:
        first = s.foreign.member(s.room_id, BOB, "join", origin_server_ts=5)
        second = s.foreign.member(s.room_id, BOB, "join", origin_server_ts=6)
        answers = [
            await s.foreign.ask("POST", f"{UNSTABLE}/send_join/same", lpdu)
            for lpdu in (first, second, first, second)
        ]
        assert [answer.status for answer in answers] == [200] * 4
        ids = [event_of(answer.body["event"]).event_id for answer in answers]
        assert ids[0] == ids[2] != ids[1] == ids[3]
        entries = s.server.node.store.entries(s.room_id, after=0, limit=100)
        assert [entry.event_id for entry in entries].count(ids[0]) == 1
        await s.honest.send("1", s.note("end", by=s.honest))
        seen = [event_id(pdu, V1) for pdu in await s.delivered(s.honest, 4)]
        assert [name for name in seen if name in ids] == [ids[0], ids[1]]


async def test_a_join_for_another_hub_is_not_appended(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        before = s.server.node.store.rooms()
        lpdu = s.foreign.member(s.room_id, "@bill:b.example", "join", hub_server="c.example")
        answer = await s.foreign.ask("POST", f"{FINAL}/v3/send_join/1", lpdu)
        check("error", answer.body)
        assert (answer.status, answer.errcode) == (400, "M_WRONG_SERVER")
        assert s.server.node.store.rooms() == before


async def test_one_transaction_in_flight_whatever_comes_beside_it(tmp_path: Path) -> None:
    """Many transactions at once: one runs, the others are told so; none is half done."""
    async with scene(tmp_path) as s:
        answers: list[int] = []

        async def send(number: int) -> None:
            answer = await s.foreign.send(f"t{number}", *[s.note(f"{number}.{n}") for n in range(3)])
            answers.append(answer.status)
            assert answer.status == 200 or answer.errcode == "M_BAD_STATE"

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(send, number)
        assert len(s.notes) == 3 * answers.count(200)
        numbers = [note.partition(".")[0] for note in s.notes]
        assert all(numbers[index] == numbers[index - index % 3] for index in range(len(numbers)))


async def test_key_packages_are_claimed_from_us_only_once_and_for_our_users_only(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        store, now = s.server.node.store, s.server.node.clock() // 1000
        await store.put_device(
            DeviceRow(user_id=ALICE, device_id="PHONE", display_name=None, token_hash=None)
        )
        lifetimes = {b"one": now + 100, b"two": now + 200, b"expired": now - 1, b"last": now + 300}
        await store.put_key_packages(
            [
                KeyPackageRow(
                    reference=name.ljust(32, b"."),
                    user_id=ALICE,
                    device_id="PHONE",
                    client_uri="mimi://a.example/d/alice/PHONE",
                    key_package=name,
                    ciphersuite=1,
                    last_resort=name == b"last",
                    not_after=until,
                )
                for name, until in lifetimes.items()
            ]
        )
        algorithm = key_package_algorithm(1)
        wanted = {"one_time_keys": {user: {"PHONE": algorithm} for user in (ALICE, CAROL, "@x:a.example")}}
        found: list[str] = []

        async def claim(server: Foreign) -> None:
            answer = await server.ask("POST", f"{FINAL}/v1/user/keys/claim", wanted)
            assert set(answer.body["one_time_keys"]) == {ALICE}
            found.append(answer.body["one_time_keys"][ALICE]["PHONE"][algorithm])

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(claim, s.foreign)
                nursery.start_soon(claim, s.honest)
        names = {name: encode_base64(name) for name in lifetimes}
        assert found.count(names[b"one"]) == found.count(names[b"two"]) == 1
        assert found.count(names[b"last"]) == 4, "last, and as often as it takes"
        assert names[b"expired"] not in found
