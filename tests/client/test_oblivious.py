"""Oblivious downloads: what comes back, who sees what, and whom the client does not believe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openmls
import pytest

from linearized.client import (
    AssetUnavailable,
    DecryptedMessage,
    Joined,
    MemoryStorage,
    MlsDevice,
    ObliviousUnavailable,
    Session,
    UntrustedAnswer,
)
from linearized.client.oblivious import download
from linearized.exceptions import MimiDecodeError
from linearized.mimi.binary_http import BinaryResponse
from linearized.mimi.content import ExternalPart, attachment
from linearized.mimi.ohttp import (
    RESPONSE_TYPE,
    SIGNATURE_LABEL,
    Exchange,
    GatewayKey,
    KeyConfigsTBS,
    SignedKeyConfigs,
    encode_key_configs,
    open_request,
)
from linearized.mimi.policy.assets import (
    AssetPolicy,
    AssetUploadLocation,
    DownloadPrivacy,
    DownloadPrivacyType,
)
from linearized.mimi.policy.components import ASSET_POLICY
from linearized.protocol.identifiers import group_id
from linearized.server import assets
from linearized.server.app import build_app
from linearized.server.assets import asset_url
from linearized.server.http import Request, Response, Route, json_response
from linearized.server.node import Node
from linearized.server.providers.client import DIRECTORY_PATH, GATEWAY, GATEWAY_KEYS
from linearized.server.providers.oblivious import GATEWAY_PATH
from tests.server.support import Network, Server, running_server
from tests.server.test_assets import PICTURE, uploaded
from tests.server.test_two_providers import received, shared_room, signed_in

OTHER = GatewayKey(key_id=9, secret=b"\x05" * 32)
OTHER_SIGNER = openmls.SignatureKeyPair.generate()
CONFIGS = encode_key_configs([OTHER.config()])
STRANGE = encode_key_configs([replace(OTHER.config(), algorithms=((1, 9), (3, 1)))])
ROOM = "!club:a.example"


@dataclass
class Pair:
    """a.example, the hub, with Alice and a file of hers; b.example with Bob."""

    network: Network
    a: Server
    b: Server
    alice: Session
    bob: Session
    room_id: str
    url: str

    def impersonate_gateway(self, keys: Callable[[], bytes], answer: Callable[[bytes], bytes]) -> None:
        """What b.example finds in place of the hub's gateway."""

        async def directory(_request: Request) -> Response:
            return json_response(
                {GATEWAY: f"https://a.example{GATEWAY_PATH}", GATEWAY_KEYS: "https://a.example/keys"}
            )

        async def give_keys(_request: Request) -> Response:
            return Response(body=keys())

        async def give_answer(request: Request) -> Response:
            return Response(body=answer(await request.body()), content_type=RESPONSE_TYPE)

        self.b.node.providers._directories.clear()
        self.network.views["b.example", "a.example"] = build_app(
            [
                Route("GET", DIRECTORY_PATH, directory),
                Route("GET", "/keys", give_keys),
                Route("POST", GATEWAY_PATH, give_answer),
            ]
        )


@asynccontextmanager
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    network = Network()
    async with (
        running_server("a.example", tmp_path, network) as a,
        running_server("b.example", tmp_path, network) as b,
        signed_in(a, await a.user("alice")) as alice,
        signed_in(b, await b.user("bob")) as bob,
    ):
        room_id = await shared_room(alice, bob)
        url = asset_url(*await uploaded(alice))
        network.log.clear()
        yield Pair(network, a, b, alice, bob, room_id, url)


async def test_a_file_comes_through_ones_own_provider_which_does_not_see_which(tmp_path: Path) -> None:
    async with pair(tmp_path) as p:
        assert await p.bob.download(p.room_id, p.url) == PICTURE
        media_id = p.url.rpartition("/")[2]
        assert not [entry for entry in p.network.log if media_id in entry[3]]
        # Bob's client spoke to b.example alone, b.example to the hub.
        assert {entry[:2] for entry in p.network.log} == {("", "b.example"), ("b.example", "a.example")}
        assert p.network.log[-1][3] == GATEWAY_PATH


async def test_a_third_providers_file_is_fetched_by_the_hub(tmp_path: Path) -> None:
    async with (
        pair(tmp_path) as p,
        running_server("c.example", tmp_path, p.network) as c,
        signed_in(c, await c.user("cathy")) as cathy,
    ):
        await p.alice.groups.invite(p.room_id, ["@cathy:c.example"])
        await received(cathy, Joined)
        url = asset_url(*await uploaded(cathy))
        p.network.log.clear()
        assert await p.bob.download(p.room_id, url) == PICTURE
        assert ("b.example", "c.example") not in {entry[:2] for entry in p.network.log}


async def test_a_file_goes_sealed_and_comes_back_opened_wherever_one_is(tmp_path: Path) -> None:
    async with pair(tmp_path) as p:
        for sender, receiver in ((p.alice, p.bob), (p.bob, p.alice)):
            part = await sender.upload_file(PICTURE, content_type="image/png", filename="cat.png")
            assert part.url.startswith(f"https://{sender.device.owner.user_id.partition(':')[2]}/")
            await sender.send(p.room_id, attachment(part, salt=b"s" * 16))
            (message,) = await received(receiver, DecryptedMessage)
            assert isinstance(message, DecryptedMessage)
            assert isinstance(message.content.part, ExternalPart)
            assert await receiver.fetch_file(p.room_id, message.content.part) == PICTURE
            with pytest.raises(MimiDecodeError, match="not the one"):
                await receiver.fetch_file(p.room_id, replace(part, content_hash=bytes(32)))
            with pytest.raises(AssetUnavailable, match="410"):
                await receiver.fetch_file(p.room_id, replace(part, expires=1))
        # At the hub there is no other way to a file that is not where providers of our kind have theirs.
        with pytest.raises(ObliviousUnavailable):
            await p.alice.fetch_file(p.room_id, replace(part, url="https://files.b.example/x"))


async def test_the_whole_of_a_files_url_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[str, str]] = []

    async def fetch(_node: Node, provider: str, wanted: str) -> bytes:
        found.append((provider, wanted))
        return PICTURE

    async with pair(tmp_path) as p:
        monkeypatch.setattr(assets, "for_provider", fetch)
        for url in ("https://files.b.example/x?token=a%2Fb&v=1#top", "https://files.b.example"):
            assert await p.bob.download(p.room_id, url) == PICTURE
        assert found == [
            ("b.example", "https://files.b.example/x?token=a%2Fb&v=1"),
            ("b.example", "https://files.b.example/"),
        ]


async def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    async with pair(tmp_path) as p:
        with pytest.raises(AssetUnavailable, match="404"):
            await p.bob.download(p.room_id, asset_url("a.example", "none"))


async def test_who_is_at_the_hub_cannot_download_obliviously(tmp_path: Path) -> None:
    async with pair(tmp_path) as p:
        with pytest.raises(ObliviousUnavailable, match="own provider"):
            await p.alice.download(p.room_id, p.url)


def alone(
    *, app_data: dict[int, bytes] | None = None, senders: tuple[tuple[bytes, bytes], ...] = ()
) -> MlsDevice:
    device = MlsDevice.open(MemoryStorage(), user_id="@bob:b.example", device_id="PHONE")
    device.client.create_group(group_id=group_id(ROOM), app_data=app_data or {}, external_senders=senders)
    return device


async def test_a_group_without_its_hubs_key_has_no_gateway(tmp_path: Path) -> None:
    device = alone(senders=((OTHER_SIGNER.public_key, b"somebody"),))
    async with pair(tmp_path) as p:
        with pytest.raises(ObliviousUnavailable, match="no key"):
            await download(p.bob.api, device, ROOM, p.url)


async def test_a_room_may_forbid_oblivious_downloads(tmp_path: Path) -> None:
    def policy(**privacy: Any) -> dict[int, bytes]:
        return {
            ASSET_POLICY: AssetPolicy(
                asset_upload_location=AssetUploadLocation.UNSPECIFIED,
                download_privacy=DownloadPrivacy(
                    default_download_type=DownloadPrivacyType.HUB_PROXY, **privacy
                ),
                max_image=0,
                max_audio=0,
                max_video=0,
                max_attachment=0,
            ).encode()
        }

    oblivious, senders = (DownloadPrivacyType.OHTTP,), ((OTHER_SIGNER.public_key, b"mimi://a.example"),)
    forbidden = alone(
        app_data=policy(allowed_download_types=(), forbidden_download_types=oblivious), senders=senders
    )
    allowed = alone(
        app_data=policy(allowed_download_types=oblivious, forbidden_download_types=()), senders=senders
    )
    async with pair(tmp_path) as p:
        with pytest.raises(ObliviousUnavailable, match="policy"):
            await download(p.bob.api, forbidden, ROOM, p.url)
        with pytest.raises(UntrustedAnswer):  # goes on, and finds another hub's signature
            await download(p.bob.api, allowed, ROOM, p.url)


def signed(provider: str, configs: bytes, signer: openmls.SignatureKeyPair) -> bytes:
    content = KeyConfigsTBS(provider=provider, key_configs=configs).encode()
    signature = signer.sign_with_label(label=SIGNATURE_LABEL, content=content)
    return SignedKeyConfigs(provider=provider, key_configs=configs, signature=signature).encode()


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(lambda p: b"", id="nothing"),
        pytest.param(lambda p: signed("a.example", CONFIGS, OTHER_SIGNER), id="signed by somebody else"),
        pytest.param(lambda p: signed("c.example", CONFIGS, p.a.node.mls_signer), id="of another provider"),
        pytest.param(lambda p: signed("a.example", b"", p.a.node.mls_signer), id="no key"),
        pytest.param(lambda p: signed("a.example", b"\0", p.a.node.mls_signer), id="malformed"),
        pytest.param(lambda p: signed("a.example", STRANGE, p.a.node.mls_signer), id="no algorithm we know"),
    ],
)
async def test_a_key_that_the_hub_did_not_sign_is_not_believed(
    tmp_path: Path, keys: Callable[[Pair], bytes]
) -> None:
    async with pair(tmp_path) as p:
        relayed: list[bytes] = []

        def answer(sealed: bytes) -> bytes:
            relayed.append(sealed)
            return b""

        p.impersonate_gateway(lambda: keys(p), answer)
        with pytest.raises(UntrustedAnswer):
            await p.bob.download(p.room_id, p.url)
        assert relayed == []


async def test_the_first_key_whose_algorithms_are_known_is_used(tmp_path: Path) -> None:
    async with pair(tmp_path) as p:
        nonce, response = bytes(32), BinaryResponse(status=200, content=PICTURE).encode()
        p.impersonate_gateway(
            lambda: signed("a.example", STRANGE + CONFIGS, p.a.node.mls_signer),
            lambda sealed: (exchange := open_request([OTHER], sealed)[1]).seal_response(
                response, nonce=nonce[: exchange.nonce_bytes]
            ),
        )
        assert await p.bob.download(p.room_id, p.url) == PICTURE


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda exchange: b"", id="nothing"),
        pytest.param(lambda exchange: bytes(200), id="sealed by nobody"),
        pytest.param(
            lambda exchange: exchange.seal_response(b"HTTP/1.1 200 OK", nonce=bytes(exchange.nonce_bytes)),
            id="no response inside",
        ),
    ],
)
async def test_a_response_that_is_not_the_gateways_is_not_believed(
    tmp_path: Path, answer: Callable[[Exchange], bytes]
) -> None:
    async with pair(tmp_path) as p:
        p.impersonate_gateway(
            lambda: signed("a.example", CONFIGS, p.a.node.mls_signer),
            lambda sealed: answer(open_request([OTHER], sealed)[1]),
        )
        with pytest.raises(UntrustedAnswer):
            await p.bob.download(p.room_id, p.url)
