"""A client that asks what a hub keeps before it joins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import openmls
import pytest

from linearized.client import ApiError, MemoryStorage, MlsDevice, Session, UntrustedAnswer
from linearized.client.metadata_policies import check_before_joining
from linearized.mimi.metadata_policy import (
    SIGNATURE_LABEL,
    MetadataPolicy,
    MetadataPolicyError,
    MetadataPolicyTBS,
    RequiredPolicy,
    SignedMetadataPolicy,
)
from linearized.mimi.policy.common import Optionality
from linearized.mimi.policy.components import LOGGING_POLICY
from linearized.mimi.policy.retention import LoggingPolicy
from linearized.protocol.identifiers import group_id
from linearized.server.app import build_app
from linearized.server.http import Request, Response, Route
from linearized.server.metadata_policies import policy_of
from linearized.server.providers import PREFIX
from tests.server.support import Network, Server, running_server
from tests.server.test_two_providers import shared_room, signed_in

ROOM = "!club:a.example"
PHONE = "TELEPHONE"


@dataclass
class Hub:
    """a.example with a room; Bob of b.example is in it, and has a second device that is not."""

    network: Network
    a: Server
    phone: Session
    room_id: str


@asynccontextmanager
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await shared_room(alice, bob)
        async with signed_in(b, "@bob:b.example", device_id=PHONE) as phone:
            yield Hub(network, a, phone, room_id)


async def test_a_room_whose_hub_keeps_to_it_is_joined(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        required = RequiredPolicy(addresses_seconds=0, reports_seconds=90 * 24 * 3600)
        await h.phone.groups.join(h.room_id, required=required)
        assert h.phone.device.in_group(h.room_id)


async def test_a_room_whose_hub_falls_short_is_not_joined(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        before = h.a.node.store.room(h.room_id)
        with pytest.raises(MetadataPolicyError) as raised:
            await h.phone.groups.join(h.room_id, required=RequiredPolicy(hidden_participants=True))
        assert raised.value.reasons == ("it sees the participants",)
        assert not h.phone.device.in_group(h.room_id)
        assert h.a.node.store.room(h.room_id) == before


async def test_nobody_is_asked_where_nothing_is_required(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        h.network.log.clear()
        await h.phone.groups.join(h.room_id, required=RequiredPolicy())
        assert not [entry for entry in h.network.log if "olicy" in entry[3]]


async def test_only_hubs_of_known_rooms_are_asked(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        with pytest.raises(ApiError) as raised:
            await h.phone.api.metadata_policy("c.example")
        assert raised.value.status == 404
        own = SignedMetadataPolicy.decode(await h.phone.api.metadata_policy("b.example"))
        assert own.provider == "b.example"


def signed(provider: str, policy: bytes, signer: openmls.SignatureKeyPair) -> bytes:
    content = MetadataPolicyTBS(provider=provider, policy=policy).encode()
    signature = signer.sign_with_label(label=SIGNATURE_LABEL, content=content)
    return SignedMetadataPolicy(provider=provider, policy=policy, signature=signature).encode()


def good(h: Hub) -> MetadataPolicy:
    return replace(policy_of(h.a.node.config), sees_participants=False)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda h: b"", id="nothing"),
        pytest.param(
            lambda h: signed("a.example", good(h).encode(), openmls.SignatureKeyPair.generate()),
            id="signed by somebody else",
        ),
        pytest.param(
            lambda h: signed("b.example", good(h).encode(), h.a.node.mls_signer), id="of another hub"
        ),
        pytest.param(lambda h: signed("a.example", b"{}", h.a.node.mls_signer), id="no policy"),
    ],
)
async def test_a_policy_that_the_hub_did_not_sign_is_not_believed(
    tmp_path: Path, answer: Callable[[Hub], bytes]
) -> None:
    async with hub(tmp_path) as h:
        real = h.network.apps["a.example"]

        async def policy(_request: Request) -> Response:
            return Response(body=answer(h))

        false = build_app([Route("GET", f"{PREFIX}/metadataPolicy", policy)])

        async def either(scope: dict[str, object], receive: object, send: object) -> None:
            chosen = false if str(scope["path"]).endswith("metadataPolicy") else real
            await chosen(scope, receive, send)  # type: ignore[arg-type]

        h.network.views["b.example", "a.example"] = either  # type: ignore[assignment]
        with pytest.raises(UntrustedAnswer):
            await h.phone.groups.join(h.room_id, required=RequiredPolicy(hidden_participants=True))
        assert not h.phone.device.in_group(h.room_id)


def group(*, logging: LoggingPolicy | None = None) -> openmls.PublicGroup:
    """A group whose external sender is not its hub."""
    device = MlsDevice.open(MemoryStorage(), user_id="@bob:b.example", device_id="DEV")
    made = device.client.create_group(
        group_id=group_id(ROOM),
        app_data={} if logging is None else {LOGGING_POLICY: logging.encode()},
        external_senders=[(openmls.SignatureKeyPair.generate().public_key, b"somebody")],
    )
    group_info, tree = made.group_info()
    return openmls.PublicGroup.observe(group_info=group_info, ratchet_tree=tree)


async def test_a_group_without_its_hubs_key_cannot_be_asked_about(tmp_path: Path) -> None:
    async with hub(tmp_path) as h:
        with pytest.raises(UntrustedAnswer, match="no key"):
            await check_before_joining(h.phone.api, group(), RequiredPolicy(hidden_senders=True))


async def test_a_room_whose_messages_are_logged_can_be_refused(tmp_path: Path) -> None:
    logger = ("mimi://a.example/d/logger/1",)
    logged = group(logging=LoggingPolicy(logging=Optionality.REQUIRED, logging_clients=logger))
    async with hub(tmp_path) as h:
        with pytest.raises(MetadataPolicyError, match="log its messages"):
            await check_before_joining(h.phone.api, logged, RequiredPolicy(no_logging_clients=True))
        await check_before_joining(h.phone.api, group(), RequiredPolicy(no_logging_clients=True))
