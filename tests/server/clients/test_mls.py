"""Handshakes, key material and group state through the client API, with real MLS bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import openmls
import pytest

from linearized.mimi.group_info import GroupInfoCode, GroupInfoResponse
from linearized.mimi.handshake import UpdateResponseCode
from linearized.protocol.base64 import decode_base64, encode_base64
from tests.server.clients.mls_support import MlsDevice, exchange, response_of, use_real_time
from tests.server.clients.support import BOT, ENCRYPTED_ROOM, MLS, Client, Server, part, room
from tests.server.device_support import device_object


@pytest.fixture
async def bot(server: Server) -> MlsDevice:
    use_real_time(server)
    return MlsDevice(server.bridge(BOT, "BRIDGE"))


@pytest.fixture
async def encrypted(server: Server, bot: MlsDevice) -> str:
    return await bot.client.create_room(
        room_version="dev.linearized.1", creation_content=ENCRYPTED_ROOM, preset="private_chat"
    )


async def test_from_a_new_group_to_a_message_another_user_reads(
    server: Server, bot: MlsDevice, encrypted: str, bob: Client
) -> None:
    answer = await bot.create_group(encrypted)
    assert response_of(answer).code is UpdateResponseCode.SUCCESS
    phone = MlsDevice(bob)
    await phone.upload(1)
    packages = await bot.key_material(encrypted, bob.user_id)
    assert len(packages) == 1

    answer = await bot.update(encrypted, bot.adding(bob.user_id, *packages))
    assert response_of(answer).code is UpdateResponseCode.SUCCESS
    bot.joined().merge_pending_commit()

    synced = await bob.sync()
    (welcome,) = synced["to_device"]["events"]
    assert welcome["type"] == "m.room.encrypted"
    assert welcome["content"]["room_id"] == encrypted
    assert welcome["content"]["commit_event_id"] == answer.json["event_id"]
    phone.group = phone.mls.join_welcome(
        welcome=decode_base64(welcome["content"]["ciphertext"]),
        ratchet_tree=decode_base64(welcome["content"]["ratchet_tree"]),
    )
    timeline = synced["rooms"]["join"][encrypted]["timeline"]["events"]
    assert [event["type"] for event in timeline[-3:]] == ["m.room.member", "m.room.member", "m.mls.commit"]
    assert timeline[-1]["unsigned"]["dev.linearized.epoch"] == 2

    (await bot.say(encrypted, "Hello Bob", "t1")).ok()
    events = (await bob.sync(synced["next_batch"]))["rooms"]["join"][encrypted]["timeline"]["events"]
    processed = phone.joined().process(decode_base64(events[0]["content"]["ciphertext"]))
    assert processed.plaintext == b"Hello Bob"


async def test_a_device_that_published_another_key_than_its_leaf_has_is_not_added(
    server: Server, bot: MlsDevice, encrypted: str, bob: Client
) -> None:
    await bot.create_group(encrypted)
    await MlsDevice(bob).upload(1)
    said = device_object(bob.user_id, bob.device_id or "")
    (await bob.call("POST", "/keys/upload", {"device_keys": said})).ok()
    (package,) = await bot.key_material(encrypted, bob.user_id)
    answer = await bot.update(encrypted, bot.adding(bob.user_id, package))
    assert response_of(answer).code is UpdateResponseCode.NOT_ALLOWED
    bot.joined().clear_pending_commit()
    await server.store.delete_device_objects(bob.user_id, [bob.device_id or ""])
    answer = await bot.update(encrypted, bot.adding(bob.user_id, package))
    assert response_of(answer).code is UpdateResponseCode.SUCCESS


async def test_a_message_for_a_past_epoch_is_a_conflict(
    server: Server, bot: MlsDevice, encrypted: str
) -> None:
    await bot.create_group(encrypted)
    late = bot.joined().encrypt(b"late")
    answer = await bot.update(encrypted, bot.joined().commit())
    assert response_of(answer).code is UpdateResponseCode.SUCCESS
    content = {
        "algorithm": ENCRYPTED_ROOM["encryption"]["algorithm"],
        "ciphertext": encode_base64(late),
        "commit_event_id": answer.json["event_id"],
    }
    path = f"{room(encrypted)}/send/m.room.encrypted/t1"
    refused = (await bot.client.call("PUT", path, content)).refused(409, "M_WRONG_EPOCH")
    assert refused["current_epoch"] == 2


async def test_a_commit_for_a_past_epoch_is_answered_inside(bot: MlsDevice, encrypted: str) -> None:
    await bot.create_group(encrypted)
    first = bot.joined().commit()
    assert response_of(await bot.update(encrypted, first)).code is UpdateResponseCode.SUCCESS
    bot.joined().clear_pending_commit()
    answer = await bot.update(encrypted, bot.joined().commit())
    assert response_of(answer).code is UpdateResponseCode.WRONG_EPOCH
    assert response_of(answer).current_epoch == 2
    assert "event_id" not in answer.json


async def test_a_commit_whose_answer_was_lost_is_the_same_event(bot: MlsDevice, encrypted: str) -> None:
    await bot.create_group(encrypted)
    commit = bot.joined().commit()
    first, second = [await bot.update(encrypted, commit) for _ in range(2)]
    assert response_of(first).code is UpdateResponseCode.SUCCESS
    assert first.json == second.json


async def test_a_bridged_users_ciphertext_names_its_message(
    server: Server, bot: MlsDevice, encrypted: str
) -> None:
    await bot.create_group(encrypted)
    carol = MlsDevice(server.bridge("@carol:matrix.example", "BRIDGE"))
    await carol.upload(1)
    bundle = bot.adding(carol.client.user_id, *await bot.key_material(encrypted, carol.client.user_id))
    assert response_of(await bot.update(encrypted, bundle)).code is UpdateResponseCode.SUCCESS
    bot.joined().merge_pending_commit()
    (welcome,) = (await carol.client.sync())["to_device"]["events"]
    carol.group = carol.mls.join_welcome(
        welcome=decode_base64(welcome["content"]["ciphertext"]),
        ratchet_tree=decode_base64(welcome["content"]["ratchet_tree"]),
    )
    event_id = (await carol.say(encrypted, "Hi", "t1")).ok()["event_id"]
    event = (await carol.client.call("GET", f"{room(encrypted)}/event/{part(event_id)}")).ok()
    assert event["sender"] == "@carol:matrix.example"
    assert event["provenance"].keys() == {"protocol", "provider", "mls"}
    assert event["unsigned"]["transaction_id"] == "t1"


async def test_group_state_is_given_to_members_sealed(bot: MlsDevice, encrypted: str) -> None:
    await bot.create_group(encrypted)
    keys = openmls.HpkeKeyPair.generate()
    answer = (await exchange(bot.client, encrypted, "group_info", bot.group_info_request(keys))).ok()
    response = GroupInfoResponse.decode(decode_base64(answer["response"]))
    assert response.status is GroupInfoCode.SUCCESS
    group_info, _ = bot.joined().group_info()
    assert group_info not in decode_base64(answer["response"])


@pytest.mark.parametrize("what", ["key_material", "group_info"])
async def test_a_request_that_is_no_structure_is_refused(bot: MlsDevice, encrypted: str, what: str) -> None:
    (await exchange(bot.client, encrypted, what, b"\x00nonsense")).refused(400, "M_INVALID_PARAM")
    (await bot.client.call("POST", f"{room(encrypted, MLS)}/mls/{what}", {})).refused(400, "M_BAD_JSON")
    bad = {"request": "!"}
    (await bot.client.call("POST", f"{room(encrypted, MLS)}/mls/{what}", bad)).refused(400, "M_INVALID_PARAM")


async def test_key_material_is_claimed_in_ones_own_name_only(
    server: Server, bot: MlsDevice, encrypted: str, bob: Client
) -> None:
    phone = MlsDevice(bob)
    await phone.upload(1)
    other = MlsDevice(replace(bot.client, user_id="@eve:a.example"))
    forged = other.key_material_request(bob.user_id)
    (await exchange(bot.client, encrypted, "key_material", forged)).refused(403, "M_FORBIDDEN")
    lying = other.key_material_request(bob.user_id, requesting=BOT)
    (await exchange(bot.client, encrypted, "key_material", lying)).refused(400, "M_INVALID_PARAM")
    assert (await bob.sync())["device_one_time_keys_count"] == {"mls": 1}


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({}, "M_BAD_JSON"),
        ({"bundle": 1}, "M_BAD_JSON"),
        ({"bundle": "!"}, "M_INVALID_PARAM"),
        ({"bundle": "AAAA"}, "M_BAD_JSON"),
        ({"bundle": "AAAA", "initial_group": {}}, "M_BAD_JSON"),
        ({"bundle": "AAAA", "initial_group": []}, "M_BAD_JSON"),
    ],
)
async def test_a_malformed_update_is_refused(bot: MlsDevice, encrypted: str, body: Any, errcode: str) -> None:
    (await bot.client.call("POST", f"{room(encrypted, MLS)}/mls/update", body)).refused(400, errcode)


async def test_only_members_touch_the_group(bot: MlsDevice, encrypted: str, bob: Client) -> None:
    request = {"request": "AAAA", "bundle": "AAAA"}
    for what in ("update", "key_material", "group_info"):
        path = f"{room(encrypted, MLS)}/mls/{what}"
        (await bob.call("POST", path, request)).refused(403, "M_FORBIDDEN")


async def test_group_state_is_asked_for_in_ones_own_name_only(bot: MlsDevice, encrypted: str) -> None:
    await bot.create_group(encrypted)
    other = MlsDevice(replace(bot.client, user_id="@eve:a.example"))
    forged = other.group_info_request(openmls.HpkeKeyPair.generate())
    (await exchange(bot.client, encrypted, "group_info", forged)).refused(403, "M_FORBIDDEN")
