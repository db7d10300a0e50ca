"""What a server says it keeps, whether that is so, and the hubs it keeps its users from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from linearized.client import ApiError, KeyMaterialUnavailable
from linearized.config import MetadataConfig
from linearized.mimi.delivery_service import DSErrorCode
from linearized.mimi.metadata_policy import (
    MetadataPolicy,
    MetadataPolicyError,
    MetadataPolicyTBS,
    RequiredPolicy,
    SignedMetadataPolicy,
)
from linearized.protocol.identifiers import client_uri
from linearized.server import metadata_policies
from linearized.server.app import build_app
from linearized.server.http import Request, Response, Route, json_response
from linearized.server.metadata_policies import policy_of
from linearized.server.providers.client import DIRECTORY_PATH, METADATA_POLICY
from linearized.store.base import REPLY_DAYS, Reply
from tests.server.providers.delivery_service_support import ask, packages, refused, unsigned
from tests.server.providers.support import ALICE, Provider, with_packages, world
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import encrypted_room, shared_room, signed_in

DAY_MS = 24 * 3_600_000
STRICT = MetadataConfig(required=RequiredPolicy(log_seconds=3600))


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


async def test_the_policy_is_what_the_settings_say_and_signed(tmp_path: Path) -> None:
    said = MetadataConfig(log_seconds=60)
    async with running_server("a.example", tmp_path, Network(), metadata=said) as a, a.http() as http:
        answer = await http.get("/_mimi/v1/metadataPolicy")
        signed = SignedMetadataPolicy.decode(answer.content)
        assert signed == a.node.hub_policies.own()
        policy = MetadataPolicy.decode(signed.policy)
        assert policy == policy_of(a.node.config)
        assert (policy.log_seconds, policy.addresses_seconds, policy.history_seconds) == (60, 0, None)


async def test_no_address_is_written_down(tmp_path: Path) -> None:
    async with running_server("a.example", tmp_path, Network()) as a:
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/_matrix/client/v3/login",
            "headers": [],
            "client": ("192.0.2.77", 1),
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"{}"}

        async def send(_message: dict[str, Any]) -> None:
            pass

        with capture_logs() as lines:
            await a.network.apps["a.example"](scope, receive, send)
        assert lines
        assert "192.0.2.77" not in str(lines)
    for path in await trio.Path(tmp_path).rglob("*sqlite3*"):
        assert b"192.0.2.77" not in await path.read_bytes()


async def test_replies_are_gone_when_the_policy_says_so(tmp_path: Path) -> None:
    clock = Clock()
    async with running_server("a.example", tmp_path, Network(), clock=clock) as a:
        store = a.node.store
        await store.expire(clock.now)
        await store.put_reply(Reply(scope="scope", key="key", value="value"))
        kept = policy_of(a.node.config).replies_seconds
        assert kept is not None
        clock.now += REPLY_DAYS * DAY_MS
        await store.expire(clock.now)
        assert store.reply("scope", "key") == "value"
        # What was remembered late in a day goes a day later; this is the longest that the policy says.
        clock.now += kept * 1000 - REPLY_DAYS * DAY_MS
        await store.expire(clock.now)
        assert store.reply("scope", "key") is None


async def test_a_hub_that_keeps_its_log_too_long_gets_no_key_packages(tmp_path: Path) -> None:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network, metadata=STRICT) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")),
    ):
        room_id = await encrypted_room(alice)
        with pytest.raises((ApiError, KeyMaterialUnavailable)):
            await alice.groups.invite(room_id, ["@bob:b.example"])
        assert b.node.store.room(room_id) is None


async def test_nor_with_a_grant(tmp_path: Path) -> None:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network, metadata=STRICT) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        for room_id in (None, "!room:a.example"):
            await bob.api.grant_consent("@alice:a.example", key_packages=True, room_id=room_id)
        assert {seen["state"] for seen in await alice.api.consents()} == {"granted"}
        assert await alice.api.take_key_packages("@bob:b.example") == []


async def test_nor_by_the_delivery_service_operations(tmp_path: Path) -> None:
    async with world(tmp_path, metadata=STRICT) as w:
        await with_packages(w.server, ALICE, "PHONE", packages=2)
        request = unsigned(packages(client_uri(ALICE, "PHONE")))
        stranger = Provider("c.example", w.server.network)
        body = await refused(
            w, request, DSErrorCode.NOT_ALLOWED, provider=stranger, room="mimi://c.example/r/x"
        )
        assert body.error is not None
        assert "does not say what it keeps" in body.error.description
        # In our own room it is for us to add them.
        assert (await ask(w, request)).key_packages


async def test_a_hub_that_keeps_to_it_can_add_our_users(tmp_path: Path) -> None:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network, metadata=MetadataConfig(log_seconds=3600)) as a,
        running_server("b.example", tmp_path, network, metadata=STRICT) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await shared_room(alice, bob)
        assert b.node.store.room(room_id) is not None


async def test_a_room_of_such_a_hub_is_not_joined_and_the_user_hears_why(tmp_path: Path) -> None:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network, metadata=STRICT) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await alice.api.create_room(preset="public_chat")
        with pytest.raises(ApiError, match="keeps log without a bound") as raised:
            await bob.api._transport.json(
                "POST",
                f"/_matrix/client/v3/join/{room_id}",
                body={},
                query={"server_name": "a.example"},
                idempotent=False,
            )
        assert (raised.value.status, raised.value.errcode) == (403, "M_FORBIDDEN")
        assert b.node.store.room(room_id) is None


def impersonate(network: Network, answer: Response, *, asked: list[str]) -> None:
    """What b.example finds at a.example."""

    async def directory(_request: Request) -> Response:
        return json_response({METADATA_POLICY: "https://a.example/policy"})

    async def policy(request: Request) -> Response:
        asked.append(request.raw_target)
        return answer

    network.views["b.example", "a.example"] = build_app(
        [Route("GET", DIRECTORY_PATH, directory), Route("GET", "/policy", policy)]
    )


def unsigned_policy(provider: str, policy: MetadataPolicy) -> bytes:
    tbs = MetadataPolicyTBS(provider=provider, policy=policy.encode())
    return SignedMetadataPolicy(provider=tbs.provider, policy=tbs.policy, signature=b"").encode()


def good(server: Server) -> MetadataPolicy:
    return replace(policy_of(server.node.config), log_seconds=0)


async def test_a_hub_that_says_nothing_or_speaks_for_another_falls_short(tmp_path: Path) -> None:
    network = Network()
    async with running_server("b.example", tmp_path, network, metadata=STRICT) as b:
        for answer in (
            Response(status=404),
            Response(body=b"nonsense"),
            Response(body=unsigned_policy("c.example", good(b))),
        ):
            impersonate(network, answer, asked=[])
            with pytest.raises(MetadataPolicyError):
                await b.node.hub_policies.require("a.example")
        with pytest.raises(MetadataPolicyError):  # nobody is there
            await b.node.hub_policies.require("c.example")


async def test_a_hub_is_asked_once_an_hour_and_few_hubs_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, clock, asked = Network(), Clock(), list[str]()
    async with running_server("b.example", tmp_path, network, metadata=STRICT, clock=clock) as b:
        impersonate(network, Response(body=unsigned_policy("a.example", good(b))), asked=asked)
        for _ in range(3):
            await b.node.hub_policies.require("a.example")
        assert len(asked) == 1
        clock.now += metadata_policies.POLICY_TTL_MS
        await b.node.hub_policies.require("a.example")
        assert len(asked) == 2
        monkeypatch.setattr(metadata_policies, "MAX_POLICIES", 1)
        b.node.hub_policies._known["c.example"] = b.node.hub_policies._known["a.example"]
        clock.now += metadata_policies.POLICY_TTL_MS
        await b.node.hub_policies.require("a.example")
        assert len(b.node.hub_policies._known) == 1


async def test_nobody_is_asked_where_nothing_is_required(tmp_path: Path) -> None:
    network = Network()
    async with running_server("b.example", tmp_path, network) as b:
        await b.node.hub_policies.require("a.example")
    async with running_server("b.example", tmp_path, network, metadata=STRICT) as b:
        await b.node.hub_policies.require("b.example")
    assert network.log == []
