"""Messages from a device to a device of another Linearized Matrix server."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import openmls
import orjson
import pytest
import trio
import trio.testing

from linearized.protocol.base64 import encode_base64, encode_base64url
from linearized.server import batches
from linearized.server.batches import EDUS
from linearized.server.welcomes import provider_address
from linearized.store.base import DeviceRow, KeyPackageRow
from tests.room.support import Member
from tests.server.device_support import device_object
from tests.server.federation.schemas import check
from tests.server.federation.support import BOB, account
from tests.server.federation.test_two_servers import pair
from tests.server.support import PASSWORD, Server

PATIENCE = 20


async def logged_in(server: Server) -> tuple[httpx.AsyncClient, dict[str, str]]:
    user_id = await server.user("alice")
    http = server.http()
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user_id},
        "password": PASSWORD,
    }
    answer = await http.post("/_matrix/client/v3/login", json=body)
    return http, {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def send(http: httpx.AsyncClient, headers: dict[str, str], messages: Any, txn: str) -> httpx.Response:
    path = f"/_matrix/client/v3/sendToDevice/org.example.ping/{txn}"
    return await http.put(path, json={"messages": messages}, headers=headers)


async def phone(server: Server, user_id: str, device_id: str = "PHONE") -> None:
    await server.node.store.put_device(
        DeviceRow(user_id=user_id, device_id=device_id, display_name=None, token_hash=None)
    )


async def test_a_message_reaches_a_device_of_another_server_once(tmp_path: Path) -> None:
    async with pair(tmp_path, alice_account=False) as (a, b, _, _):
        await phone(b, BOB)
        http, headers = await logged_in(a)
        async with aclosing(http):
            for _ in range(2):
                answer = await send(http, headers, {BOB: {"PHONE": {"n": 1}, "GONE": {"n": 2}}}, "1")
                assert answer.status_code == 200, answer.text
        with trio.fail_after(PATIENCE):
            while a.node.store.to_device_addresses(EDUS):
                await trio.testing.wait_all_tasks_blocked(0.01)
        (message,) = b.node.store.to_device(BOB, "PHONE", after=0, limit=9)
        assert (message.type, message.sender) == ("org.example.ping", "@alice:a.example")
        assert orjson.loads(message.content) == {"n": 1}
        assert b.node.store.to_device(BOB, "GONE", after=0, limit=9) == []


async def test_a_star_means_the_devices_we_know_of(tmp_path: Path) -> None:
    async with pair(tmp_path, alice_account=False) as (a, _, network, _):
        for name in ("PHONE", "TV"):
            said = orjson.dumps(device_object(BOB, name))
            await a.node.store.put_device_object(BOB, name, said)
        network.down.add("b.example")
        http, headers = await logged_in(a)
        async with aclosing(http):
            assert (await send(http, headers, {BOB: {"*": {}}}, "1")).status_code == 200
        rows = a.node.store.to_device(provider_address("b.example"), EDUS, after=0, limit=9)
        units = [orjson.loads(row.content) for row in rows]
        for unit in units:
            check("direct_to_device", unit)
        assert [unit["content"]["target_device"] for unit in units] == ["PHONE", "TV"]


async def test_a_server_that_takes_nothing_stops_its_senders_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_WAITING_EDUS", 1)
    async with pair(tmp_path, alice_account=False) as (a, _, network, _):
        network.down.add("b.example")
        http, headers = await logged_in(a)
        async with aclosing(http):
            assert (await send(http, headers, {BOB: {"PHONE": {}}}, "1")).status_code == 200
            refused = await send(http, headers, {BOB: {"PHONE": {}}}, "2")
            assert (refused.status_code, refused.json()["errcode"]) == (429, "M_LIMIT_EXCEEDED")
        assert len(a.node.store.to_device(provider_address("b.example"), EDUS, after=0, limit=9)) == 1


async def test_a_server_one_shares_no_room_with_is_not_written_to(tmp_path: Path) -> None:
    async with pair(tmp_path, alice_account=False) as (a, _, _, _):
        await account(a, "@nobody:a.example")
        http, headers = await logged_in(a)
        async with aclosing(http):
            refused = await send(http, headers, {"@carol:c.example": {"PHONE": {}}}, "1")
            assert (refused.status_code, refused.json()["errcode"]) == (403, "M_FORBIDDEN")
        assert a.node.store.to_device_addresses(EDUS) == []


async def test_key_packages_are_claimed_where_one_shares_a_room_and_nowhere_else(tmp_path: Path) -> None:
    async with pair(tmp_path, alice_account=False) as (a, b, network, _):
        await phone(b, BOB, "DEV")
        member = Member(BOB)
        package = member.key_package()
        info = openmls.inspect_key_package(package, now=b.node.clock() // 1000)
        await b.node.store.put_key_packages(
            [
                KeyPackageRow(
                    reference=info.reference,
                    user_id=BOB,
                    device_id="DEV",
                    client_uri=info.identity.decode(),
                    key_package=package,
                    ciphersuite=info.ciphersuite,
                    last_resort=False,
                    not_after=info.not_after,
                )
            ]
        )
        http, headers = await logged_in(a)
        async with aclosing(http):

            async def claim(suite: str = "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519") -> Any:
                body = {
                    "one_time_keys": {BOB: {"DEV": "mls"}, "@carol:c.example": {"X": "mls"}},
                    "mls": {"protocol_version": "m.mls_10", "acceptable_ciphersuites": [suite]},
                }
                answer = await http.post("/_matrix/client/v3/keys/claim", json=body, headers=headers)
                assert answer.status_code == 200, answer.text
                return answer.json()

            other = await claim("MLS_128_DHKEMP256_AES128GCM_SHA256_P256")
            assert (other["one_time_keys"], set(other["failures"])) == ({}, {"c.example"})
            unknown = await claim("MLS_256_UNHEARD_OF")
            assert set(unknown["failures"]) == {"b.example", "c.example"}
            first = await claim()
            assert set(first["failures"]) == {"c.example"}
            ((name, key),) = first["one_time_keys"][BOB]["DEV"].items()
            assert name == f"mls:{encode_base64url(info.reference)}"
            assert key == {"key": encode_base64(package)}
            assert a.node.store.key_package_route(info.reference) == "b.example"
            assert (await claim())["one_time_keys"] == {}, "each once"
            network.down.add("b.example")
            assert (await claim())["failures"]["b.example"]["errcode"] == "M_UNKNOWN"
