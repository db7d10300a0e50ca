"""Key packages: whose they are, how many, and who gets which."""

from __future__ import annotations

from typing import Any

import openmls
import orjson
import pytest

from linearized.mimi.commit_parts import leaf_signature_key
from linearized.protocol.base64 import encode_base64
from linearized.protocol.identifiers import client_uri
from linearized.server.clients import keys
from linearized.store.base import DeviceRow
from tests.server.clients.mls_support import LIFETIME, MlsDevice, use_real_time
from tests.server.clients.support import Client, Server
from tests.server.device_support import device_object

SUITE = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519"


@pytest.fixture
async def phone(server: Server, alice: Client) -> MlsDevice:
    use_real_time(server)
    return MlsDevice(alice)


def upload(name: str, package: bytes, *, member: str = "one_time_keys") -> dict[str, Any]:
    return {member: {name: {"key": encode_base64(package)}}}


async def claim(client: Client, wanted: Any, **mls: Any) -> Any:
    description = {"protocol_version": "m.mls_10", "acceptable_ciphersuites": [SUITE], **mls}
    return await client.call("POST", "/keys/claim", {"one_time_keys": wanted, "mls": description})


async def test_uploaded_packages_are_counted(phone: MlsDevice) -> None:
    assert await phone.upload(3) == {"mls": 3}
    assert (await phone.client.sync())["device_one_time_keys_count"] == {"mls": 3}
    assert (await phone.client.call("POST", "/keys/upload", {})).ok() == {"one_time_key_counts": {"mls": 3}}


async def test_a_device_says_of_itself_what_it_signed(server: Server, alice: Client, bob: Client) -> None:
    said = device_object(alice.user_id, "DEVICE")
    (await alice.call("POST", "/keys/upload", {"device_keys": said})).ok()
    answer = (await bob.call("POST", "/keys/query", {"device_keys": {alice.user_id: []}})).ok()
    assert answer["device_keys"][alice.user_id]["DEVICE"].items() >= said.items()
    assert orjson.loads(server.store.device_objects(alice.user_id)["DEVICE"]) == said


async def test_a_device_cannot_speak_for_another(server: Server, alice: Client, bob: Client) -> None:
    for said in (
        device_object(bob.user_id, "DEVICE"),
        device_object(alice.user_id, "OTHER"),
        {**device_object(alice.user_id, "DEVICE"), "signatures": {}},
    ):
        (await alice.call("POST", "/keys/upload", {"device_keys": said})).refused(400, "M_INVALID_PARAM")
    assert server.store.device_objects(alice.user_id) == {}


async def test_uploading_a_package_again_changes_nothing(phone: MlsDevice) -> None:
    body = upload("mls:1", phone.key_package())
    for _ in range(2):
        answer = (await phone.client.call("POST", "/keys/upload", body)).ok()
        assert answer == {"one_time_key_counts": {"mls": 1}}


async def test_packages_of_who_a_device_was_before_are_withdrawn(server: Server, alice: Client) -> None:
    use_real_time(server)
    before, now = MlsDevice(alice), MlsDevice(alice)  # it has lost its keys, and made others
    assert await before.upload(3, fallback=1) == {"mls": 3}
    assert alice.device_id is not None
    given = await server.store.claim_key_package(
        user_id=alice.user_id, device_id=alice.device_id, ciphersuites=[1], now_ms=server.clock.now
    )
    assert given is not None
    again = upload("mls:again", given.key_package)
    identity = client_uri(alice.user_id, alice.device_id).encode()
    elsewhere = openmls.Client.create(
        identity=identity, ciphersuite=openmls.CIPHERSUITE_P384_AES256GCM_SHA384_P384
    )
    package = elsewhere.key_package(now=server.clock.now // 1000, lifetime=LIFETIME)
    (await alice.call("POST", "/keys/upload", upload("mls:p384", package))).ok()
    assert await now.upload(2) == {"mls": 3}  # two, and that of another suite
    left = server.store.unclaimed_key_packages(alice.user_id, alice.device_id)
    assert {leaf_signature_key(row.key_package) for row in left} == {
        now.mls.signature_key,
        elsewhere.signature_key,
    }
    # A request that is sent again, late, says nothing new.
    assert (await alice.call("POST", "/keys/upload", again)).ok() == {"one_time_key_counts": {"mls": 3}}
    assert server.store.key_package(given.reference) == given


async def test_a_last_resort_package_is_told_apart_and_does_not_count(
    server: Server, phone: MlsDevice
) -> None:
    assert (await phone.client.sync())["device_unused_fallback_key_types"] == []
    assert await phone.upload(1, fallback=1) == {"mls": 1}
    assert (await phone.client.sync())["device_unused_fallback_key_types"] == ["mls"]
    server.clock.now += (LIFETIME + 3600) * 1000
    assert (await phone.client.sync())["device_unused_fallback_key_types"] == []


async def test_a_package_bears_the_name_of_the_device_that_uploads_it(
    server: Server, phone: MlsDevice, bob: Client
) -> None:
    tablet = await server.user("alice", "TABLET")
    body = upload("mls:1", phone.key_package())
    for other in (bob, tablet):
        (await other.call("POST", "/keys/upload", body)).refused(400, "M_INVALID_PARAM")


async def test_a_package_that_has_expired_is_refused(server: Server, phone: MlsDevice) -> None:
    package = phone.key_package(lifetime=60)
    server.clock.now += 3 * 3600 * 1000
    (await phone.client.call("POST", "/keys/upload", upload("mls:1", package))).refused(
        400, "M_INVALID_PARAM"
    )


async def test_a_package_that_no_room_has_a_use_for_is_refused(server: Server, phone: MlsDevice) -> None:
    assert phone.client.device_id is not None
    identity = client_uri(phone.client.user_id, phone.client.device_id).encode()
    for suite, status in ((openmls.CIPHERSUITE_P384_AES256GCM_SHA384_P384, 200), (0x4D, 400)):
        other = openmls.Client.create(identity=identity, ciphersuite=suite)
        package = other.key_package(now=server.clock.now // 1000, lifetime=LIFETIME)
        answer = await phone.client.call("POST", "/keys/upload", upload("mls:1", package))
        assert answer.status == status


async def test_a_package_is_what_it_is_uploaded_as(phone: MlsDevice) -> None:
    swapped = [
        upload("mls:1", phone.key_package(last_resort=True)),
        upload("mls:1", phone.key_package(), member="fallback_keys"),
    ]
    for body in swapped:
        (await phone.client.call("POST", "/keys/upload", body)).refused(400, "M_INVALID_PARAM")


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({"one_time_keys": {"signed_curve25519:A": {"key": "x"}}}, "M_INVALID_PARAM"),
        ({"one_time_keys": {"mls:": {"key": "x"}}}, "M_INVALID_PARAM"),
        ({"one_time_keys": {"mls:1": "x"}}, "M_BAD_JSON"),
        ({"one_time_keys": {"mls:1": {}}}, "M_BAD_JSON"),
        ({"one_time_keys": {"mls:1": {"key": "!"}}}, "M_INVALID_PARAM"),
        ({"one_time_keys": {"mls:1": {"key": "AAAA"}}}, "M_INVALID_PARAM"),
        ({"one_time_keys": []}, "M_BAD_JSON"),
        ({"device_keys": {"user_id": "@alice:a.example"}}, "M_INVALID_PARAM"),
    ],
)
async def test_what_is_no_key_package_is_refused(phone: MlsDevice, body: Any, errcode: str) -> None:
    (await phone.client.call("POST", "/keys/upload", body)).refused(400, errcode)
    assert (await phone.client.sync())["device_one_time_keys_count"] == {"mls": 0}


async def test_uploads_and_stores_are_bounded(phone: MlsDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MAX_PACKAGES_PER_DEVICE", 3)
    monkeypatch.setattr(keys, "MAX_PACKAGES_PER_UPLOAD", 2)
    three = {f"mls:{n}": {"key": encode_base64(phone.key_package())} for n in range(3)}
    (await phone.client.call("POST", "/keys/upload", {"one_time_keys": three})).refused(
        400, "M_INVALID_PARAM"
    )
    assert await phone.upload(2) == {"mls": 2}
    two = {f"mls:{n}": {"key": encode_base64(phone.key_package())} for n in range(2)}
    (await phone.client.call("POST", "/keys/upload", {"one_time_keys": two})).refused(400, "M_LIMIT_EXCEEDED")


async def test_a_package_is_claimed_once_and_the_last_resort_again_and_again(
    phone: MlsDevice, bob: Client
) -> None:
    await phone.upload(1, fallback=1)
    wanted = {phone.client.user_id: {"DEVICE": "mls"}}
    claimed = []
    for _ in range(3):
        answer = (await claim(bob, wanted)).ok()
        (key,) = answer["one_time_keys"][phone.client.user_id]["DEVICE"].values()
        claimed.append(key["key"])
    assert claimed[0] != claimed[1] == claimed[2]
    assert (await phone.client.sync())["device_one_time_keys_count"] == {"mls": 0}


async def test_what_cannot_be_claimed_is_left_out(phone: MlsDevice, bob: Client) -> None:
    await phone.upload(1)
    wanted = {phone.client.user_id: {"GONE": "mls"}, "@x:b.example": {"D": "mls"}}
    answer = (await claim(bob, wanted)).ok()
    assert answer["one_time_keys"] == {}
    assert answer["failures"].keys() == {"b.example"}
    others = {phone.client.user_id: {"DEVICE": "mls"}}
    answer = (await claim(bob, others, acceptable_ciphersuites=["MLS_256_UNHEARD_OF"])).ok()
    assert answer["one_time_keys"] == {}
    assert (await phone.client.sync())["device_one_time_keys_count"] == {"mls": 1}


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({"one_time_keys": {}}, "M_BAD_JSON"),
        ({"mls": {}}, "M_BAD_JSON"),
        ({"one_time_keys": {}, "mls": {"protocol_version": "m.mls_11"}}, "M_INVALID_PARAM"),
        (
            {"one_time_keys": {}, "mls": {"protocol_version": "m.mls_10", "required_capabilities": "AA"}},
            "M_INVALID_PARAM",
        ),
        (
            {
                "one_time_keys": {"@a:a.example": {"D": "signed_curve25519"}},
                "mls": {"protocol_version": "m.mls_10", "acceptable_ciphersuites": [SUITE]},
            },
            "M_INVALID_PARAM",
        ),
        (
            {
                "one_time_keys": {"a": {"D": "mls"}},
                "mls": {"protocol_version": "m.mls_10", "acceptable_ciphersuites": [SUITE]},
            },
            "M_INVALID_PARAM",
        ),
        (
            {
                "one_time_keys": {"@a:a.example": {f"D{n}": "mls" for n in range(101)}},
                "mls": {"protocol_version": "m.mls_10", "acceptable_ciphersuites": [SUITE]},
            },
            "M_INVALID_PARAM",
        ),
    ],
)
async def test_a_malformed_claim_is_refused(bob: Client, body: Any, errcode: str) -> None:
    (await bob.call("POST", "/keys/claim", body)).refused(400, errcode)


async def test_devices_of_our_users_are_listed(server: Server, alice: Client, bob: Client) -> None:
    await server.user("alice", "TABLET")
    wanted: dict[str, list[str]] = {alice.user_id: [], "@x:b.example": []}
    answer = (await bob.call("POST", "/keys/query", {"device_keys": wanted})).ok()
    assert answer["device_keys"][alice.user_id].keys() == {"DEVICE", "TABLET"}
    assert answer["failures"].keys() == {"b.example"}
    one = (await bob.call("POST", "/keys/query", {"device_keys": {alice.user_id: ["TABLET"]}})).ok()
    assert one["device_keys"][alice.user_id].keys() == {"TABLET"}


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({}, "M_BAD_JSON"),
        ({"device_keys": {"@a:a.example": "x"}}, "M_BAD_JSON"),
        ({"device_keys": {"a": []}}, "M_INVALID_PARAM"),
        ({"device_keys": {f"@{n}:a.example": [] for n in range(101)}}, "M_INVALID_PARAM"),
    ],
)
async def test_a_malformed_query_is_refused(bob: Client, body: Any, errcode: str) -> None:
    (await bob.call("POST", "/keys/query", body)).refused(400, errcode)


async def test_a_bridged_device_comes_into_being_with_its_first_package(server: Server, bob: Client) -> None:
    use_real_time(server)
    carol = MlsDevice(server.bridge("@carol:matrix.example", "BRIDGE"))
    assert await carol.upload(1) == {"mls": 1}
    assert [device.device_id for device in server.store.devices("@carol:matrix.example")] == ["BRIDGE"]
    answer = (await claim(bob, {"@carol:matrix.example": {"BRIDGE": "mls"}})).ok()
    assert answer["one_time_keys"]["@carol:matrix.example"].keys() == {"BRIDGE"}


async def test_a_device_is_listed_with_its_name(server: Server, bob: Client) -> None:
    device = DeviceRow(user_id=bob.user_id, device_id="LAPTOP", display_name="Laptop", token_hash=None)
    await server.store.put_device(device)
    answer = (await bob.call("POST", "/keys/query", {"device_keys": {bob.user_id: ["LAPTOP"]}})).ok()
    described = answer["device_keys"][bob.user_id]["LAPTOP"]
    assert described["unsigned"] == {"device_display_name": "Laptop"}
