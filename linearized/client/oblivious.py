"""Downloading a file without anybody knowing both who asks and for what (RFC 9458).

Our provider relays the request to the hub of a room, which fetches the file: the provider does not see which,
the hub does not see for whom. The hub's key comes by way of our provider, so it has to be signed with the key
that the room's group holds for its hub.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

import openmls

from linearized.client.api import ProviderApi
from linearized.client.device import MlsDevice
from linearized.client.errors import AssetUnavailable, ObliviousUnavailable, UntrustedAnswer
from linearized.exceptions import InvalidInput
from linearized.mimi.binary_http import BinaryRequest, BinaryResponse
from linearized.mimi.ohttp import (
    KEY_BYTES,
    SIGNATURE_LABEL,
    KeyConfig,
    SignedKeyConfigs,
    decode_key_configs,
    padded_request,
    seal_request,
)
from linearized.mimi.policy.assets import AssetPolicy, DownloadPrivacyType
from linearized.mimi.policy.components import ASSET_POLICY

_OK: Final = 200
# The suites whose hubs sign with Ed25519, all hubs of ours; only the scheme of the suite counts here.
_ED25519: Final = openmls.CIPHERSUITE_X25519_AES128GCM_SHA256_ED25519
_HUB: Final = b"mimi://"


async def download(api: ProviderApi, device: MlsDevice, room_id: str, url: str) -> bytes:
    """The file at ``url``, as a message of the room names it; still sealed, if it was.

    Raises:
        ObliviousUnavailable: the group has no key of another hub, or the room's policy forbids this way.
        AssetUnavailable: the hub has no such file, or may not fetch it.
        UntrustedAnswer: the key or the response is not the hub's.
        ApiError, ServerUnreachable: our provider did not relay it.
    """
    gateway, hub_key = _gateway(device, room_id)
    if gateway == device.owner.user_id.partition(":")[2]:
        raise ObliviousUnavailable("our own provider is the hub: it would see who asks and for what")
    _check_policy(device, room_id)
    config = _key_config(await api.gateway_keys(gateway), gateway, hub_key)
    parts = urlsplit(url)
    # As HTTP/2's ":path": "the path and query parts of the target URI" (RFC 9113, section 8.3.1).
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = BinaryRequest(method="GET", scheme=parts.scheme, authority=parts.netloc, path=path)
    try:
        ephemeral = sha256(api.ids(KEY_BYTES).encode()).digest()
        sealed, exchange = seal_request(config, padded_request(request.encode()), ephemeral=ephemeral)
        response = BinaryResponse.decode(exchange.open_response(await api.oblivious(gateway, sealed)))
    except InvalidInput as error:
        raise UntrustedAnswer(f"the oblivious response of {gateway}: {error}") from error
    if response.status != _OK:
        raise AssetUnavailable(response.status)
    return response.content


def _gateway(device: MlsDevice, room_id: str) -> tuple[str, bytes]:
    """The hub's name and key, as the room's group has them."""
    for key, identity in device.group(room_id).external_senders():
        if identity.startswith(_HUB):
            return identity.removeprefix(_HUB).decode(errors="replace"), key
    raise ObliviousUnavailable("the room's group has no key of its hub")


def _check_policy(device: MlsDevice, room_id: str) -> None:
    # "The allowed_download_types and forbidden_download_types specify the download mechanisms which are
    # allowed and forbidden, respectively" (Room policy, Asset policies component).
    data = device.group(room_id).app_data().get(ASSET_POLICY)
    if data is not None:
        privacy = AssetPolicy.decode(data).download_privacy
        if DownloadPrivacyType.OHTTP in privacy.forbidden_download_types:
            raise ObliviousUnavailable("the room's policy forbids oblivious downloads")


def _key_config(answer: bytes, gateway: str, hub_key: bytes) -> KeyConfig:
    try:
        signed = SignedKeyConfigs.decode(answer)
        openmls.verify_with_label(
            ciphersuite=_ED25519,
            public_key=hub_key,
            label=SIGNATURE_LABEL,
            content=signed.signed(),
            signature=signed.signature,
        )
        configs = decode_key_configs(signed.key_configs)
    except (InvalidInput, openmls.MlsError) as error:
        raise UntrustedAnswer(f"the key of {gateway} is not signed by it") from error
    usable = [config for config in configs if config.aead is not None]
    if signed.provider != gateway or not usable:
        raise UntrustedAnswer(f"{gateway} has no key that we know")
    return usable[0]
