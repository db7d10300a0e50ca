"""Pseudonyms: made by an account, which then acts as them, for one room each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openmls
import pytest

from linearized.mimi.pseudonyms import MINIMAL_METADATA, PseudonymousCredential
from linearized.protocol.base64 import encode_base64
from linearized.protocol.signing import verify_json
from linearized.server import pseudonyms as rules
from linearized.server.clients import pseudonyms
from linearized.store.archive import ArchiveRecordRow
from tests.server.clients.mls_support import LIFETIME, use_real_time
from tests.server.clients.support import ENCRYPTED_ROOM, MLS, Answer, Client, Server

USER = "0b5c2d3e-7f1a-4c6b-9d8e-1a2b3c4d5e6f"
PHONE = "9d3f6a10-2b4c-4e8f-8a7b-6c5d4e3f2a1b"
OTHER = USER.replace("0b5c", "1b5c")
DEVICE = PHONE.replace("-", "_")
KEY = {"signature_key": encode_base64(bytes(32))}


async def make(account: Client, user: str = USER, client: str = PHONE, **body: Any) -> Answer:
    return await account.call("PUT", f"{MLS}/pseudonyms/{user}/{client}", body or KEY)


def acting(account: Client, user: str = USER, device_id: str = DEVICE) -> Client:
    """The account as one of its pseudonyms."""
    pseudonym = f"@{user}:a.example"
    query = {"dev.linearized.pseudonym": pseudonym, "device_id": device_id}
    return replace(account, user_id=pseudonym, device_id=device_id, extra=query)


@pytest.fixture
async def masked(alice: Client) -> Client:
    """Alice's pseudonym."""
    (await make(alice)).ok()
    return acting(alice)


async def minimal_room(client: Client) -> Answer:
    content = {**ENCRYPTED_ROOM, MINIMAL_METADATA: True}
    return await client.call("POST", "/createRoom", {"creation_content": content})


async def test_an_account_acts_as_its_pseudonym(alice: Client) -> None:
    made = (await make(alice)).ok()
    assert (made["user_id"], made["device_id"]) == (f"@{USER}:a.example", DEVICE)
    whoami = (await acting(alice).call("GET", "/account/whoami")).ok()
    assert whoami == {"user_id": f"@{USER}:a.example", "device_id": DEVICE, "is_guest": False}
    (await make(alice)).ok()


async def test_the_server_signs_which_key_the_real_device_has(server: Server, alice: Client) -> None:
    statement = (await make(alice)).ok()["statement"]
    assert {name: statement[name] for name in ("type", "user_id", "device_id", "signature_key")} == {
        "type": "dev.linearized.client_key",
        "user_id": alice.user_id,
        "device_id": "DEVICE",
        **KEY,
    }
    assert statement["issued_ts"] == server.clock.now
    key = server.node.identity.key
    verify_json(statement, name="a.example", keys={key.key_id: key.verify_key})


async def test_nobody_else_gets_or_acts_as_a_pseudonym(alice: Client, bob: Client, masked: Client) -> None:
    (await make(bob)).refused(409, "M_USER_IN_USE")
    (await acting(bob).call("GET", "/account/whoami")).refused(403, "M_FORBIDDEN")
    (await acting(alice, OTHER).call("GET", "/account/whoami")).refused(403, "M_FORBIDDEN")
    (await acting(alice, USER, "DEVICE").call("GET", "/account/whoami")).refused(403, "M_FORBIDDEN")
    (await masked.call("GET", "/account/whoami")).ok()


async def test_an_account_lists_its_own(server: Server, alice: Client, bob: Client, masked: Client) -> None:
    server.clock.now += 1
    (await make(alice, OTHER)).ok()
    room_id = (await minimal_room(masked)).ok()["room_id"]
    path = f"{MLS}/pseudonyms"
    assert (await alice.call("GET", path)).ok() == {
        "pseudonyms": [
            {"user_id": f"@{USER}:a.example", "devices": [DEVICE], "room_id": room_id},
            {"user_id": f"@{OTHER}:a.example", "devices": [DEVICE]},
        ]
    }
    assert (await bob.call("GET", path)).ok() == {"pseudonyms": []}
    assert (await masked.call("GET", path)).ok() == {"pseudonyms": []}


@pytest.mark.parametrize(
    ("user", "client", "key"),
    [
        ("alice", PHONE, KEY["signature_key"]),
        (USER, "PHONE", KEY["signature_key"]),
        (USER.upper(), PHONE, KEY["signature_key"]),
        (USER, PHONE, encode_base64(bytes(31))),
    ],
)
async def test_a_pseudonym_is_two_random_uuids_and_a_key(
    alice: Client, user: str, client: str, key: str
) -> None:
    (await make(alice, user, client, signature_key=key)).refused(400, "M_INVALID_PARAM")


async def test_only_an_account_has_pseudonyms(server: Server, masked: Client) -> None:
    (await make(masked, OTHER)).refused(403, "M_FORBIDDEN")
    (await make(server.bridge(device_id="BRIDGE"), OTHER)).refused(403, "M_FORBIDDEN")


async def test_an_account_has_a_bounded_number(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudonyms, "MAX_PSEUDONYMS", 1)
    monkeypatch.setattr(pseudonyms, "MAX_DEVICES", 2)
    (await make(alice)).ok()
    (await make(alice, OTHER)).refused(403, "M_LIMIT_EXCEEDED")
    (await make(alice, USER, USER)).ok()
    (await make(alice, USER, OTHER)).refused(403, "M_LIMIT_EXCEEDED")
    (await make(alice)).ok()


async def test_a_name_that_an_account_has_is_no_pseudonym(server: Server, alice: Client) -> None:
    await server.user(USER)
    (await make(alice)).refused(409, "M_USER_IN_USE")


async def test_what_pseudonyms_ask_for_counts_for_their_account(
    server: Server, alice: Client, masked: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    monkeypatch.setattr(server.node.limits.account, "take", counted.append)
    (await masked.call("GET", "/account/whoami")).ok()
    assert counted == [alice.user_id]


async def test_a_pseudonym_is_for_the_room_it_made(server: Server, alice: Client, masked: Client) -> None:
    (await minimal_room(masked)).ok()
    assert "another room" in (await minimal_room(masked)).refused(403, "M_FORBIDDEN")["error"]
    (await make(alice, OTHER)).ok()
    room_id = (await minimal_room(acting(alice, OTHER))).ok()["room_id"]
    answer = await masked.call("POST", f"/join/{room_id}", {})
    assert "another room" in answer.refused(403, "M_FORBIDDEN")["error"]
    assert await rules.may_use(server.node, acting(alice, OTHER).user_id, room_id)
    assert not await rules.may_use(server.node, acting(alice, OTHER).user_id, None)
    assert await rules.may_use(server.node, alice.user_id, None)


async def test_an_account_makes_no_minimal_metadata_room(alice: Client) -> None:
    (await minimal_room(alice)).refused(403, "M_FORBIDDEN")


def _package(now: int, user: str = USER, client: str = PHONE) -> bytes:
    keys = openmls.SignatureKeyPair.generate()
    credential = PseudonymousCredential(
        client_pseudonym=f"mimi://a.example/d/{user}/{client}",
        user_pseudonym=f"mimi://a.example/u/{user}",
        signature_public_key=keys.public_key,
        identity_link_ciphertext=b"sealed",
    )
    mls = openmls.Client.create(identity=credential.encode(), signature_key=keys)
    return mls.key_package(now=now, lifetime=LIFETIME)


async def upload(client: Client, package: bytes) -> Answer:
    body = {"one_time_keys": {"mls:1": {"key": encode_base64(package)}}}
    return await client.call("POST", "/keys/upload", body)


async def test_key_packages_bear_the_pseudonyms_own_credential(server: Server, masked: Client) -> None:
    now = use_real_time(server)
    (await upload(masked, _package(now))).ok()
    for package in (_package(now, OTHER), _package(now, client=OTHER)):
        (await upload(masked, package)).refused(400, "M_INVALID_PARAM")
    claimed = await server.store.claim_key_package(
        user_id=masked.user_id, device_id=DEVICE, ciphersuites=[1], now_ms=server.clock.now
    )
    assert claimed is not None
    assert claimed.client_uri == f"mimi://a.example/d/{USER}/{PHONE}"


async def test_nobody_claims_them_without_a_room(server: Server, alice: Client, masked: Client) -> None:
    now = use_real_time(server)
    (await upload(masked, _package(now))).ok()
    suite = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"
    body = {
        "one_time_keys": {masked.user_id: {DEVICE: "mls"}},
        "mls": {"protocol_version": "m.mls_10", "acceptable_ciphersuites": [suite]},
    }
    assert (await alice.call("POST", "/keys/claim", body)).ok()["one_time_keys"] == {}


async def test_the_server_forgets_a_pseudonym_that_has_left(
    server: Server, alice: Client, bob: Client, masked: Client
) -> None:
    path = f"{MLS}/pseudonyms/{USER}"
    room_id = (await minimal_room(masked)).ok()["room_id"]
    (await alice.call("DELETE", path)).refused(403, "M_FORBIDDEN")
    record = ArchiveRecordRow(
        number=1, seq=1, event_id="$event", tag=bytes(16), expires_ts=None, stub=bytes(32), sealed=b"sealed"
    )
    for user_id in (masked.user_id, alice.user_id):
        await server.store.put_archive(user_id, room_id, bytes(16), [record], most_records=2, most_bytes=100)
    (await masked.call("POST", f"/rooms/{room_id}/leave", {})).ok()
    for stranger in (bob, masked):
        (await stranger.call("DELETE", path)).refused(404, "M_NOT_FOUND")
    assert (await alice.call("DELETE", path)).ok() == {}
    assert (await alice.call("GET", f"{MLS}/pseudonyms")).ok() == {"pseudonyms": []}
    (await masked.call("GET", "/account/whoami")).refused(403, "M_FORBIDDEN")
    (await alice.call("DELETE", path)).refused(404, "M_NOT_FOUND")
    (await make(alice)).refused(409, "M_USER_IN_USE")
    assert server.store.devices(masked.user_id) == []
    assert server.store.archives(masked.user_id) == []
    assert len(server.store.archives(alice.user_id)) == 1
