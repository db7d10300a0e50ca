"""Key packages claimed at other servers, and the Welcomes for their devices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import openmls
import orjson
import pytest
import trio.testing

from linearized.protocol.base64 import decode_base64, encode_base64, encode_base64url
from linearized.protocol.canonical import JsonObject
from linearized.room.algorithms import key_package_algorithm
from linearized.room.credentials import ClientIdentity
from linearized.server.batches import EDUS
from linearized.server.claims import CLAIMED, claim_at
from linearized.server.exchange import OutboundError
from linearized.server.http import Response, json_response
from linearized.server.welcomes import provider_address
from linearized.store.base import NewToDevice, Reply
from tests.room.support import BOB, NOW, ROOM, Member, grouped_room
from tests.server.deliveries import Setting, delivering, linear, quiet, welcome
from tests.server.federation.schemas import check
from tests.server.federation.support import World, room, world
from tests.server.test_batches import Bodies
from tests.server.test_fanout import rows

PHONE = ClientIdentity(BOB, "DEV")
TABLET = ClientIdentity(BOB, "TABLET")
ALGORITHM = key_package_algorithm(1)


def answer(*packages: object, user: str = BOB, device: str = "DEV") -> JsonObject:
    return {"one_time_keys": {user: {device: dict.fromkeys([ALGORITHM], *packages)}}}


def of_suite(ciphersuite: int) -> Member:
    bob = Member(BOB)
    bob.client = openmls.Client.create(identity=bob.client.identity, ciphersuite=ciphersuite)
    return bob


def package(bob: Member | None = None) -> str:
    return encode_base64((bob or Member(BOB)).key_package())


async def claimed(w: World, body: Any) -> list[ClientIdentity]:
    w.foreign.claim_answer = json_response(body)
    w.server.node.clock = lambda: NOW
    found = await claim_at(w.server.node, "b.example", [PHONE], [1])
    for device, reference, _ in found:
        assert w.server.node.store.key_package_route(reference) == "b.example"
        known = w.server.node.store.reply(CLAIMED, encode_base64url(reference))
        assert known is not None
        assert orjson.loads(known) == [device.user_id, device.device_id]
    return [device for device, *_ in found]


async def test_a_package_is_claimed_and_it_is_remembered_for_whom(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        assert await claimed(w, answer(package())) == [PHONE]
        (asked,) = w.foreign.claims
        check("keys_claim.request", asked)
        assert asked == {"one_time_keys": {BOB: {"DEV": ALGORITHM}}}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"one_time_keys": []},
        {"one_time_keys": {BOB: 5}},
        answer(5),
        answer("!!!"),
        answer("AAAA"),
        answer(package(), user="@eve:b.example"),
        answer(package(), device="TV"),
        answer(encode_base64(Member("@eve:b.example").key_package())),
        answer(encode_base64(Member(BOB, "TV").key_package())),
        answer(encode_base64(of_suite(2).key_package())),
    ],
)
async def test_what_is_not_the_devices_own_package_is_left_out(tmp_path: Path, body: JsonObject) -> None:
    async with world(tmp_path) as w:
        assert await claimed(w, body) == []


class Suites:
    """Bob's server: it has a package of one suite for each device, and may break off at a request."""

    def __init__(self, w: World, packages: dict[str, tuple[int, Member]]) -> None:
        self.packages = packages
        self.asked: list[dict[str, str]] = []
        self.broken = 0
        w.server.node.clock = lambda: NOW

    async def request(self, _server: str, _method: str, _path: str, *, json: JsonObject) -> JsonObject:
        wanted = json["one_time_keys"][BOB]
        self.asked.append(wanted)
        if len(self.asked) == self.broken:
            raise OutboundError("b.example does not answer")
        given = {
            device: {algorithm: encode_base64(member.key_package())}
            for device, algorithm in wanted.items()
            for suite, member in [self.packages[device]]
            if algorithm == key_package_algorithm(suite)
        }
        return {"one_time_keys": {BOB: given}}


@pytest.mark.parametrize("broken", [False, True])
async def test_a_device_is_asked_for_one_suite_after_the_other(
    tmp_path: Path, broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        peer = Suites(w, {"DEV": (2, of_suite(2)), "TABLET": (1, Member(BOB, "TABLET"))})
        peer.broken = 3 if broken else 0
        monkeypatch.setattr(w.server.node.federation, "request", peer.request)
        found = await claim_at(w.server.node, "b.example", [PHONE, TABLET], [7, 1, 2])
        names = [key_package_algorithm(suite) for suite in (7, 1, 2)]
        assert peer.asked == [
            {"DEV": names[0], "TABLET": names[0]},
            {"DEV": names[1], "TABLET": names[1]},
            {"DEV": names[2]},
        ]
        assert [device for device, *_ in found] == ([TABLET] if broken else [TABLET, PHONE])


async def test_a_server_that_refuses_gives_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await room(w.server)
        w.foreign.claim_answer = Response(status=403, body=b'{"errcode": "M_FORBIDDEN"}')
        with pytest.raises(OutboundError):
            await claim_at(w.server.node, "b.example", [PHONE], [1])


async def added(setting: Setting, *, claim: bool, sender: str = "@alice:a.example") -> NewToDevice:
    """Bob's device is added to a group; its package was claimed for it, or came another way."""
    group, alice, _ = grouped_room()
    accepted = group.submit(alice.add(Member(BOB)), now=NOW)
    (effect,) = accepted.welcomes
    (reference,) = effect.references
    await setting.store.put_key_package_routes({reference: "b.example"}, NOW + 1_000_000)
    if claim:
        value = orjson.dumps([BOB, "DEV"]).decode()
        await setting.store.put_reply(Reply(scope=CLAIMED, key=encode_base64url(reference), value=value))
    waiting = replace(welcome(accepted, seq=len(rows(accepted))), sender=sender)
    await setting.room(linear())
    await setting.append_rows(rows(accepted), waiting)
    await quiet()
    return waiting


async def test_a_welcome_for_a_claimed_package_goes_to_its_device(tmp_path: Path) -> None:
    peer = Bodies()
    async with delivering(tmp_path / "store.sqlite3", peer) as setting:
        await added(setting, claim=True)
        assert peer.notified == []
        units = [unit for body in peer.bodies for unit in body.get("edus", [])]
        (unit,) = units
        check("direct_to_device", unit)
        assert unit["sender"] == "@alice:a.example"
        content = unit["content"]
        assert (content["target"], content["target_device"]) == (BOB, "DEV")
        message = content["message"]
        assert (message["algorithm"], message["room_id"]) == (
            "m.mls.v1.welcome.dhkemx25519-aes128gcm-sha256-ed25519",
            ROOM,
        )
        assert len(decode_base64(message["ciphertext"])) > 100
        commit = setting.store.entry_by_id(message["commit_event_id"])
        assert commit is not None
        assert commit.type == "m.mls.commit"
        assert setting.store.to_device_addresses(EDUS) == []
        assert setting.store.to_device(provider_address("b.example"), ROOM, after=0, limit=9) == []


@pytest.mark.parametrize(("claim", "sender"), [(False, "@alice:a.example"), (True, "@carol:c.example")])
async def test_any_other_welcome_goes_the_way_its_package_came(
    tmp_path: Path, claim: bool, sender: str
) -> None:
    peer = Bodies()
    async with delivering(tmp_path / "store.sqlite3", peer) as setting:
        await added(setting, claim=claim, sender=sender)
        assert len(peer.notified) == 1
        assert all("edus" not in body for body in peer.bodies)


async def test_the_hub_waits_for_room_before_it_queues_a_welcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr("linearized.server.batches.MAX_WAITING_EDUS", 0)
    peer = Bodies()
    async with delivering(tmp_path / "store.sqlite3", peer) as setting:
        await added(setting, claim=True)
        assert len(peer.notified) == 1, "then it goes by MIMI, if the peer has it"
