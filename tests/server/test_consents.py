"""Consent between two providers: asked for, granted, revoked, and what key material depends on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openmls
import orjson
import pytest

from linearized.client import ApiError, Joined, KeyMaterialUnavailable, Session
from linearized.config import ConsentConfig
from linearized.config_file import parse_config
from linearized.config_template import default_config
from linearized.exceptions import ConfigError
from linearized.mimi.consent import ConsentEntry, ConsentOperation
from linearized.mimi.key_material import KeyMaterialUserCode
from linearized.protocol.identifiers import room_uri, user_uri
from linearized.server import consent_rules, consents
from linearized.server.consents import EVENT
from linearized.server.providers.client import Answer, ProviderError
from linearized.store.contacts import ANY_ROOM
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import encrypted_room, received, signed_in

ALICE, BOB = "@alice:a.example", "@bob:b.example"
OTHER_ROOM = "!other:a.example"


@dataclass
class Scene:
    """Alice of a.example and Bob of b.example, who share no room yet."""

    a: Server
    b: Server
    alice: Session
    bob: Session

    async def send(
        self,
        entry: ConsentEntry,
        *,
        endpoint: str = "requestConsent",
        target: str | None = None,
    ) -> Answer:
        """Have a.example's server send b.example what it never would by itself."""
        to = target or (entry.target_uri if endpoint == "requestConsent" else entry.requester_uri)
        return await self.a.node.providers.post("b.example", endpoint, to, entry.encode())

    def state(self, server: Server, room_id: str = ANY_ROOM, *, requester: str = ALICE) -> str | None:
        target = BOB if requester == ALICE else ALICE
        row = server.node.store.consent(requester, target, room_id)
        return row.state if row is not None else None


@asynccontextmanager
async def scene(tmp_path: Path, *, network: Network | None = None) -> AsyncIterator[Scene]:
    network = network or Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        yield Scene(a, b, alice, bob)


def entry(operation: ConsentOperation = ConsentOperation.REQUEST, **changes: Any) -> ConsentEntry:
    plain = ConsentEntry(operation=operation, requester_uri=user_uri(ALICE), target_uri=user_uri(BOB))
    return replace(plain, **changes)


async def code_of(session: Session, room_id: str, user_id: str) -> int:
    with pytest.raises(KeyMaterialUnavailable) as raised:
        await session.groups.key_packages(room_id, user_id)
    return raised.value.code


def told(server: Server, session: Session) -> list[dict[str, str]]:
    """What a user's device was told of consents."""
    device = session.device.owner
    rows = server.node.store.to_device(device.user_id, device.device_id, after=0, limit=100)
    return [orjson.loads(row.content) for row in rows if row.type == EVENT]


async def test_a_request_is_seen_and_granted_and_then_key_packages_can_be_had(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.bob.api.require_consent(required=True)
        room_id = await encrypted_room(s.alice)
        assert await code_of(s.alice, room_id, BOB) == KeyMaterialUserCode.NO_CONSENT
        await s.alice.api.request_consent(BOB)
        assert s.state(s.a) == s.state(s.b) == "requested"
        assert told(s.b, s.bob) == [{"requester": ALICE, "target": BOB, "state": "requested"}]
        (seen,) = await s.bob.api.consents()
        assert (seen["requester"], seen["target"], seen["state"]) == (ALICE, BOB, "requested")
        assert await code_of(s.alice, room_id, BOB) == KeyMaterialUserCode.NO_CONSENT
        await s.bob.api.grant_consent(ALICE)
        assert s.state(s.a) == s.state(s.b) == "granted"
        assert told(s.a, s.alice)[-1]["state"] == "granted"
        await s.alice.groups.invite(room_id, [BOB])
        await received(s.bob, Joined)


async def test_consent_for_one_room_is_not_for_another(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.bob.api.require_consent(required=True)
        room_id, other = await encrypted_room(s.alice), await encrypted_room(s.alice)
        await s.bob.api.grant_consent(ALICE, room_id=room_id)
        assert await code_of(s.alice, other, BOB) == KeyMaterialUserCode.NO_CONSENT_FOR_THIS_ROOM
        assert await s.alice.groups.key_packages(room_id, BOB)
        (seen,) = await s.alice.api.consents()
        assert seen["room_id"] == room_id


async def test_a_revocation_is_kept_from_the_one_who_was_revoked(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        room_id = await encrypted_room(s.alice)
        await s.bob.api.grant_consent(ALICE)
        await s.bob.api.revoke_consent(ALICE)
        assert (s.state(s.a), s.state(s.b)) == ("granted", "revoked")
        assert await code_of(s.alice, room_id, BOB) == KeyMaterialUserCode.NO_CONSENT
        await s.bob.api.revoke_consent(ALICE, tell=True)
        assert s.state(s.a) == "revoked"
        # Who was denied cannot ask again, and does not hear that it was for nothing.
        await s.alice.api.request_consent(BOB)
        assert s.state(s.b) == "revoked"


async def test_a_request_can_be_taken_back(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        await s.alice.api.cancel_consent(BOB)  # of nothing: accepted, and nothing happens
        await s.alice.api.request_consent(BOB, room_id=OTHER_ROOM)
        await s.alice.api.cancel_consent(BOB)  # another scope
        assert s.state(s.b, OTHER_ROOM) == "requested"
        await s.alice.api.cancel_consent(BOB, room_id=OTHER_ROOM)
        assert s.state(s.a, OTHER_ROOM) is s.state(s.b, OTHER_ROOM) is None
        assert [message["state"] for message in told(s.b, s.bob)] == ["requested", "cancelled"]


async def test_a_repeated_request_rings_once(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        for _ in range(3):
            await s.alice.api.request_consent(BOB)
        assert len(told(s.b, s.bob)) == 1


async def test_a_grant_brings_key_packages_which_are_given_out_once(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        room_id = await encrypted_room(s.alice)
        await s.bob.api.grant_consent(ALICE, key_packages=True)
        (seen,) = await s.alice.api.consents()
        assert seen["key_packages"] is True
        packages = await s.alice.api.take_key_packages(BOB)
        assert len(packages) == 1
        assert await s.alice.api.take_key_packages(BOB) == []
        reference = openmls.key_package_reference(packages[0])
        assert s.a.node.store.key_package_route(reference) == "b.example"
        await s.alice.groups.add_users(room_id, {BOB: packages})
        await received(s.bob, Joined)


async def test_by_default_nobody_needs_consent_and_a_user_can_block_somebody(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        room_id = await encrypted_room(s.alice)
        assert await s.alice.groups.key_packages(room_id, BOB)
        await s.bob.api.revoke_consent(ALICE, room_id=room_id)
        assert await code_of(s.alice, room_id, BOB) == KeyMaterialUserCode.NO_CONSENT_FOR_THIS_ROOM


async def test_the_settings_can_ask_for_consent_by_provider_and_a_user_can_waive_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path) as s:
        room_id = await encrypted_room(s.alice)
        for required_from, code in (
            (("c.example",), None),
            (("a.example",), KeyMaterialUserCode.NO_CONSENT),
            (("*",), KeyMaterialUserCode.NO_CONSENT),
        ):
            config = replace(s.b.node.config, consent=ConsentConfig(required_from=required_from))
            monkeypatch.setattr(s.b.node, "config", config)
            if code is None:
                assert await s.alice.groups.key_packages(room_id, BOB)
            else:
                assert await code_of(s.alice, room_id, BOB) == code
                # Nor is told who exists.
                assert await code_of(s.alice, room_id, "@nobody:b.example") == code
        await s.bob.api.require_consent(required=False)
        assert await s.alice.groups.key_packages(room_id, BOB)


async def test_two_users_of_one_provider_need_no_server_between_them(tmp_path: Path) -> None:
    network = Network()
    async with scene(tmp_path, network=network) as s, signed_in(s.a, await s.a.user("anna")) as anna:
        before = len(network.log)
        await s.alice.api.request_consent("@anna:a.example")
        assert told(s.a, anna) == [{"requester": ALICE, "target": "@anna:a.example", "state": "requested"}]
        await anna.api.grant_consent(ALICE)
        assert told(s.a, s.alice)[-1]["state"] == "granted"
        await anna.api.revoke_consent(ALICE)
        (seen,) = await anna.api.consents()
        assert seen["state"] == "revoked"
        await s.alice.api.request_consent("@nobody:a.example")
        assert all(origin == "" for origin, *_ in network.log[before:])


Refused = tuple[ConsentEntry, str, str | None, int]


@pytest.mark.parametrize(
    "refused",
    [
        (entry(requester_uri="mimi://c.example/u/carol"), "requestConsent", None, 403),
        (entry(target_uri="mimi://c.example/u/carol"), "requestConsent", None, 404),
        (entry(ConsentOperation.GRANT), "requestConsent", None, 400),
        (entry(ConsentOperation.REVOKE), "requestConsent", None, 400),
        (entry(), "updateConsent", None, 400),
        (entry(ConsentOperation.CANCEL), "updateConsent", None, 400),
        (entry(), "requestConsent", "mimi://b.example/u/eve", 400),
        (entry(requester_uri="nobody"), "requestConsent", None, 400),
        (entry(room_id="no room"), "requestConsent", None, 400),
        (entry(ConsentOperation.GRANT), "updateConsent", None, 403),
    ],
    ids=[
        "another provider's requester",
        "another provider's target",
        "a grant as a request",
        "a revocation as a request",
        "a request as an update",
        "a cancel as an update",
        "another path",
        "no user",
        "no room",
        "a target of ours granting us something",
    ],
)
async def test_what_a_provider_may_not_say_changes_nothing(tmp_path: Path, refused: Refused) -> None:
    said, endpoint, target, status = refused
    async with scene(tmp_path) as s:
        assert (await s.send(said, endpoint=endpoint, target=target)).status == status
        assert s.b.node.store.consents_of(BOB, limit=9) == []
        assert told(s.b, s.bob) == []


async def test_a_request_may_name_the_providers_domain_in_its_path(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        for target in ("b.example", "mimi://b.example"):
            assert (await s.send(entry(), target=target)).status == 201


async def test_a_malformed_entry_is_refused(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        answer = await s.a.node.providers.post("b.example", "requestConsent", user_uri(BOB), b"\x07")
        assert answer.status == 400


async def test_a_user_who_does_not_exist_is_answered_for_like_one_who_does(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        answer = await s.send(entry(target_uri="mimi://b.example/u/nobody"))
        assert (answer.status, answer.body) == (201, b"")
        assert s.b.node.store.consents_of("@nobody:b.example", limit=9) == []


def grant(**changes: Any) -> ConsentEntry:
    """Alice lets Bob add her."""
    plain = ConsentEntry(
        operation=ConsentOperation.GRANT, requester_uri=user_uri(BOB), target_uri=user_uri(ALICE)
    )
    return replace(plain, **changes)


async def test_key_packages_of_somebody_else_or_too_many_are_refused(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        room_id = await encrypted_room(s.alice)
        (foreign,) = await s.alice.groups.key_packages(room_id, BOB)
        (own,) = await s.alice.groups.key_packages(room_id, ALICE)
        damaged = own[:-1] + bytes([own[-1] ^ 1])
        for packages in ((own, foreign), (damaged,), (own,) * (consents.MAX_PACKAGES + 1)):
            answer = await s.send(grant(client_key_packages=packages), endpoint="updateConsent")
            assert answer.status == 400
        assert s.state(s.b, requester=BOB) is None
        answer = await s.send(grant(client_key_packages=(own,)), endpoint="updateConsent")
        assert answer.status == 201
        assert s.state(s.b, requester=BOB) == "granted"


async def test_requests_are_limited_for_each_user(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        statuses = [(await s.send(entry(room_id=room_uri(f"!{n}:a.example")))).status for n in range(21)]
        assert statuses == [201] * 20 + [429]
        answer = await s.send(entry())
        assert answer.retry_after_s is not None
        with pytest.raises(ProviderError) as raised:
            await consents.ask(s.a.node, requester=ALICE, target=BOB, room_id=None)
        assert raised.value.status == 429
        assert s.state(s.a) is None
        # Another user's are not.
        assert (await s.send(entry(target_uri="mimi://b.example/u/ben"))).status == 201


@pytest.mark.parametrize("bound", ["MAX_WAITING", "MAX_RECORDS"])
async def test_what_waits_for_a_user_and_what_is_kept_of_one_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    async with scene(tmp_path) as s:
        monkeypatch.setattr(consents, bound, 1)
        assert (await s.send(entry())).status == 201
        assert (await s.send(entry(room_id=room_uri(OTHER_ROOM)))).status == 429
        assert s.state(s.b, OTHER_ROOM) is None


@pytest.mark.usefixtures("asked_once")
async def test_what_a_user_decided_stands_even_if_the_other_provider_is_away(tmp_path: Path) -> None:
    network = Network()
    async with scene(tmp_path, network=network) as s:
        network.down.add("a.example")
        with pytest.raises(ApiError) as raised:
            await s.bob.api.grant_consent(ALICE)
        assert raised.value.status in {502, 504}
        assert s.state(s.b) == "granted"


@pytest.mark.usefixtures("asked_once")
async def test_a_request_that_did_not_arrive_is_not_recorded(tmp_path: Path) -> None:
    network = Network()
    async with scene(tmp_path, network=network) as s:
        network.down.add("b.example")
        with pytest.raises(ApiError):
            await s.alice.api.request_consent(BOB)
        assert s.state(s.a) is None


@pytest.mark.parametrize("body", [{}, {"user_id": 7}, {"user_id": BOB, "room_id": "nowhere"}])
async def test_a_client_that_names_no_user_or_no_room_is_told_so(
    tmp_path: Path, body: dict[str, object]
) -> None:
    async with scene(tmp_path) as s:
        path = "/_matrix/client/unstable/dev.linearized.1/consents/request"
        with pytest.raises(ApiError) as raised:
            await s.alice.api._transport.json("POST", path, body=body, idempotent=True)
        assert raised.value.status == 400


def test_the_settings_name_providers_or_all_of_them(tmp_path: Path) -> None:
    plain = default_config("a.example")
    assert parse_config(plain, base=tmp_path).consent.required_from == ()
    for text, expected in (('["*"]', ("*",)), ('["b.example"]', ("b.example",))):
        said = plain.replace("# required_from = []", f"required_from = {text}")
        consent = parse_config(said, base=tmp_path).consent
        assert consent.required_from == expected
        assert consent.is_required_from("b.example")
    for wrong in ("true", '["*", "b.example"]', '"b.example"'):
        with pytest.raises(ConfigError, match="required_from"):
            parse_config(plain.replace("# required_from = []", f"required_from = {wrong}"), base=tmp_path)


async def test_a_linearized_matrix_claim_says_no_requester_and_gets_nothing_from_who_wants_to_know(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as s:
        node = s.b.node
        assert not consent_rules.is_required(node, BOB, "a.example")
        await s.bob.api.require_consent(required=True)
        assert consent_rules.is_required(node, BOB, "a.example")
        device = s.bob.device.owner.device_id
        algorithm = "m.mls.v1.key_package.dhkemx25519-aes128gcm-sha256-ed25519"
        path = "/_matrix/federation/unstable/org.matrix.i-d.ralston-mimi-linearized-matrix.02/user/keys/claim"
        wanted = {"one_time_keys": {BOB: {device: algorithm}}}
        assert await s.a.node.federation.request("b.example", "POST", path, json=wanted) == {
            "one_time_keys": {}
        }
        await s.bob.api.require_consent(required=False)
        answer = await s.a.node.federation.request("b.example", "POST", path, json=wanted)
        assert answer["one_time_keys"][BOB][device][algorithm]
