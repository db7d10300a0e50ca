"""Key material: ours for others, others' for the rooms we order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openmls
import pytest

from linearized.mimi.key_material import (
    ClientKeyMaterial,
    KeyMaterialClientCode,
    KeyMaterialResponse,
    KeyMaterialUserCode,
    RequiredCapabilities,
)
from linearized.protocol.identifiers import client_uri, user_uri
from linearized.server.http import Response
from linearized.server.providers.client import ProviderError
from tests.room.support import LIFETIME, MLS, Member

from .support import ALICE, BINARY, BOB, Provider, World, key_request, with_packages, world

CAROL = "@carol:c.example"


async def ask(w: World, target: str, **options: object) -> KeyMaterialResponse:
    """Bob's provider asks for a user's key material."""
    request = key_request(w.bob, user_uri(target), w.uri, **options)  # type: ignore[arg-type]  # passed on
    answer = await w.other.ask("keyMaterial", user_uri(target), request.encode())
    assert answer.status_code == 200, answer.text
    return KeyMaterialResponse.decode(answer.content)


def response_of(target: str, *packages: tuple[str, bytes]) -> bytes:
    return KeyMaterialResponse(
        user_status=KeyMaterialUserCode.SUCCESS,
        user_uri=user_uri(target),
        clients=tuple(
            ClientKeyMaterial(
                status=KeyMaterialClientCode.SUCCESS,
                client_uri=client_uri(target, device),
                key_package=package,
            )
            for device, package in packages
        ),
    ).encode()


def refused(answer: httpx.Response, status: int, errcode: str) -> None:
    assert (answer.status_code, answer.json()["errcode"]) == (status, errcode)


# --- our own users' ---


async def test_each_device_gives_a_package_and_none_gives_one_twice(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await with_packages(w.server, ALICE, "PHONE", packages=2)
        await with_packages(w.server, ALICE, "LAPTOP", packages=2)
        first, second = [await ask(w, ALICE) for _ in range(2)]
        for response in (first, second):
            assert response.user_status is KeyMaterialUserCode.SUCCESS
            assert response.user_uri == user_uri(ALICE)
            assert {client.client_uri for client in response.clients} == {
                client_uri(ALICE, "PHONE"),
                client_uri(ALICE, "LAPTOP"),
            }
        given = [client.key_package for response in (first, second) for client in response.clients]
        assert len(set(given)) == 4


async def test_a_device_that_has_run_out_makes_it_a_partial_success(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await with_packages(w.server, ALICE, "PHONE", packages=2)
        await with_packages(w.server, ALICE, "LAPTOP", packages=1)
        await ask(w, ALICE)
        partial = await ask(w, ALICE)
        assert partial.user_status is KeyMaterialUserCode.PARTIAL_SUCCESS
        status = {client.client_uri: client.status for client in partial.clients}
        assert status == {
            client_uri(ALICE, "PHONE"): KeyMaterialClientCode.SUCCESS,
            client_uri(ALICE, "LAPTOP"): KeyMaterialClientCode.KEY_MATERIAL_EXHAUSTED,
        }
        nothing = await ask(w, ALICE)
        assert nothing.user_status is KeyMaterialUserCode.NO_COMPATIBLE_MATERIAL


async def test_the_last_resort_is_given_when_nothing_else_is_left_and_stays(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await with_packages(w.server, ALICE, "PHONE", packages=1, last_resort=True)
        found = [(await ask(w, ALICE)).clients[0].key_package for _ in range(3)]
        kinds = [openmls.inspect_key_package(one or b"", now=MLS.now).last_resort for one in found]
        assert kinds == [False, True, True]
        assert found[1] == found[2]


async def test_a_suite_we_have_nothing_for_is_not_compatible(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await with_packages(w.server, ALICE, "PHONE")
        # The first suite is that of the request's signature.
        chacha = openmls.CIPHERSUITE_X25519_CHACHA20POLY1305_SHA256_ED25519
        response = await ask(w, ALICE, suites=(chacha,))
        assert response.user_status is KeyMaterialUserCode.NO_COMPATIBLE_MATERIAL
        (client,) = response.clients
        assert client.status is KeyMaterialClientCode.NOTHING_COMPATIBLE
        assert w.server.node.store.key_package_counts(ALICE, "PHONE") == {1: 1}


async def test_only_clients_with_the_required_capabilities_give_a_package(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        client = await with_packages(w.server, ALICE, "PHONE", packages=1, last_resort=True)
        await with_packages(w.server, ALICE, "LAPTOP", packages=0)
        able = openmls.inspect_key_package(
            client.key_package(now=MLS.now, lifetime=LIFETIME), now=MLS.now
        ).capabilities
        for lacking in (
            RequiredCapabilities(extension_types=(0xF0A1,)),
            RequiredCapabilities(proposal_types=(*able.proposals, 0xF0A2)),
            RequiredCapabilities(credential_types=(0xF0A3,)),
        ):
            response = await ask(w, ALICE, required=lacking)
            assert response.user_status is KeyMaterialUserCode.NO_COMPATIBLE_MATERIAL
            clients = {client.client_uri: client for client in response.clients}
            # What the client can do is told, so that the requester knows what is missing.
            phone = clients[client_uri(ALICE, "PHONE")]
            assert phone.status is KeyMaterialClientCode.NOTHING_COMPATIBLE
            assert phone.capabilities is not None
            assert (phone.capabilities.extensions, phone.capabilities.proposals) == (
                able.extensions,
                able.proposals,
            )
            laptop = clients[client_uri(ALICE, "LAPTOP")]
            assert laptop.status is KeyMaterialClientCode.KEY_MATERIAL_EXHAUSTED
        # Nothing was used up, and who can is given one.
        assert w.server.node.store.key_package_counts(ALICE, "PHONE") == {1: 1}
        required = RequiredCapabilities(
            extension_types=(*able.extensions, 1, 5),
            proposal_types=(*able.proposals, 3),
            credential_types=able.credentials,
        )
        response = await ask(w, ALICE, required=required)
        assert response.user_status is KeyMaterialUserCode.PARTIAL_SUCCESS
        assert w.server.node.store.key_package_counts(ALICE, "PHONE") == {}


async def test_a_request_of_a_protocol_that_nobody_here_has_is_incompatible(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await with_packages(w.server, ALICE, "PHONE")
        for target in (user_uri(ALICE), user_uri(CAROL)):
            request = b"\x02" + key_request(w.bob, target, w.uri).encode()[1:]
            answer = await w.other.ask("keyMaterial", target, request)
            response = KeyMaterialResponse.decode(answer.content)
            assert (response.user_status, response.user_uri, response.clients) == (
                KeyMaterialUserCode.INCOMPATIBLE_PROTOCOL,
                target,
                (),
            )


async def test_only_suites_there_can_be_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        await with_packages(w.server, ALICE, "PHONE")
        store, sought = w.server.node.store, list[list[int]]()
        real = type(store).claim_key_package

        async def claim(self: Any, **named: Any) -> Any:
            sought.append(list(named["ciphersuites"]))
            return await real(self, **named)

        monkeypatch.setattr(type(store), "claim_key_package", claim)
        suites = (1, *range(100, 60_000), *[1] * 10_000, 2)
        request = key_request(w.bob, user_uri(ALICE), w.uri, suites=suites)
        answer = await w.other.ask("keyMaterial", user_uri(ALICE), request.encode())
        assert KeyMaterialResponse.decode(answer.content).user_status is KeyMaterialUserCode.SUCCESS
        assert sought == [[1, 2]]


async def test_a_provider_outside_the_room_gets_no_key_material_for_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await with_packages(w.server, ALICE, "PHONE")
        stranger = Provider("c.example", w.server.network)
        carol = Member(CAROL)
        for room, status in (
            (w.uri, 403),
            ("mimi://b.example/r/theirs", 403),
            ("mimi://c.example/r/own", 200),
        ):
            request = key_request(carol, user_uri(ALICE), room)
            answer = await stranger.ask("keyMaterial", user_uri(ALICE), request.encode())
            assert answer.status_code == status, room


@pytest.mark.parametrize("target", ["@nobody:a.example"])
async def test_an_unknown_user_has_no_clients(tmp_path: Path, target: str) -> None:
    async with world(tmp_path) as w:
        response = await ask(w, target)
        assert (response.user_status, response.clients) == (KeyMaterialUserCode.USER_UNKNOWN, ())


async def test_what_is_no_user_of_ours_is_unknown(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        target = "mimi://a.example/r/clubhouse"
        request = key_request(w.bob, target, w.uri)
        answer = await w.other.ask("keyMaterial", target, request.encode())
        assert KeyMaterialResponse.decode(answer.content).user_status is KeyMaterialUserCode.USER_UNKNOWN


async def test_a_request_that_is_not_signed_by_whom_it_names_is_a_bad_request(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await with_packages(w.server, ALICE, "PHONE")
        good = key_request(w.bob, user_uri(ALICE), w.uri)
        bad = [
            replace(good, signature=good.signature[:-1] + bytes([good.signature[-1] ^ 1])),
            replace(good, signature=b""),
            replace(good, requester_signature_key=w.alice.client.signature_key),
            key_request(w.bob, user_uri(ALICE), w.uri, requesting_user="mimi://b.example/u/mallory"),
            key_request(w.bob, user_uri(ALICE), w.uri, requesting_user="mimi://b.example/r/bob"),
            key_request(w.bob, user_uri("@anna:a.example"), w.uri),  # for another user than its path
        ]
        for request in bad:
            refused(await w.other.ask("keyMaterial", user_uri(ALICE), request.encode()), 400, "M_BAD_JSON")
        assert w.server.node.store.key_package_counts(ALICE, "PHONE") == {1: 1}


# --- through us as the hub ---


async def test_the_hub_passes_a_participants_request_on_and_remembers_where_the_welcome_goes(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        carol = Member(CAROL)
        package = carol.key_package()
        third = type(w.other)("c.example", w.other.network)
        body = response_of(CAROL, ("DEV", package))
        third.key_material = lambda _: Response(body=body, content_type=BINARY)
        request = key_request(w.bob, user_uri(CAROL), w.uri)
        answer = await w.other.ask("keyMaterial", user_uri(CAROL), request.encode())
        assert answer.content == body
        assert third.asked == [request.encode()]
        reference = openmls.inspect_key_package(package, now=MLS.now).reference
        assert w.server.node.store.key_package_route(reference) == "c.example"


@pytest.mark.parametrize("case", ["no participant", "unknown room", "another's user", "no room"])
async def test_the_hub_asks_nobody_for_who_is_not_in_the_room(tmp_path: Path, case: str) -> None:
    async with world(tmp_path, with_bob=case != "no participant") as w:
        third = type(w.other)("c.example", w.other.network)
        room = {"unknown room": "mimi://a.example/r/unknown", "no room": ""}.get(case, w.uri)
        member = w.alice if case == "another's user" else w.bob
        request = key_request(member, user_uri(CAROL), room)
        answer = await w.other.ask("keyMaterial", user_uri(CAROL), request.encode())
        assert answer.status_code == (400 if case == "no room" else 403)
        assert not third.asked


async def test_a_target_provider_that_does_not_answer_as_it_should_is_a_bad_gateway(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        mallory = Member("@mallory:d.example")
        nobody = openmls.Client.create(identity=b"nobody").key_package(now=MLS.now, lifetime=LIFETIME)
        third = type(w.other)("c.example", w.other.network)
        request = key_request(w.bob, user_uri(CAROL), w.uri).encode()
        good = Member(CAROL).key_package()
        answers = [
            Response(status=500, body=b"{}"),
            Response(status=404),
            Response(body=b"", content_type=BINARY),
            Response(body=b"<html>", content_type="text/html"),
            Response(body=response_of(CAROL, ("DEV", good)) + b"\0", content_type=BINARY),
            Response(body=response_of(CAROL, ("DEV", good[:-1] + b"?")), content_type=BINARY),
            Response(body=response_of(CAROL, ("DEV", nobody)), content_type=BINARY),
            # Another provider's package: remembering it would send that user's Welcomes here.
            Response(body=response_of(CAROL, ("DEV", mallory.key_package())), content_type=BINARY),
        ]
        for response in answers:
            third.key_material = lambda _, response=response: response  # type: ignore[misc]  # bound now
            refused(await w.other.ask("keyMaterial", user_uri(CAROL), request), 502, "M_UNKNOWN")
        reference = openmls.inspect_key_package(mallory.key_package(), now=MLS.now).reference
        assert w.server.node.store.key_package_route(reference) is None
        w.other.network.down.add("c.example")
        refused(await w.other.ask("keyMaterial", user_uri(CAROL), request), 502, "M_UNKNOWN")


@pytest.mark.parametrize(
    "directory",
    [
        Response(body=b"<html>"),
        Response(body=b"[]"),
        Response(status=404, body=b"{}"),
        Response(body=b"{}"),
        Response(body=b'{"keyMaterial": 5}'),
        Response(body=b'{"keyMaterial": "http://c.example/{targetUser}"}'),
        Response(body=b'{"keyMaterial": "https://c.example/no-place"}'),
        Response(body=b'{"keyMaterial": "https://c.example/}{"}'),
        Response(body=b'{"keyMaterial": "https://user@c.example/{targetUser}"}'),
    ],
)
async def test_a_directory_that_leads_nowhere_is_the_providers_failure(
    tmp_path: Path, directory: Response
) -> None:
    async with world(tmp_path) as w:
        third = type(w.other)("c.example", w.other.network)
        third.directory = directory
        with pytest.raises(ProviderError):
            await w.server.node.providers.post("c.example", "keyMaterial", user_uri(CAROL), b"")
        assert not third.asked


async def test_a_directory_is_fetched_once_an_hour(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        for _ in range(3):
            await w.server.node.providers.post("b.example", "notify", "mimi://a.example/r/x", b"")
        fetched = [entry for entry in w.other.network.log if "directory" in entry[3]]
        assert len(fetched) == 1
        assert BOB.endswith(fetched[0][1])
