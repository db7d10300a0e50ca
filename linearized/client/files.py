"""Files that messages refer to: sealed and uploaded, fetched and opened."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from linearized.client import oblivious
from linearized.client.api import ProviderApi
from linearized.client.device import MlsDevice
from linearized.client.errors import AssetUnavailable, ObliviousUnavailable
from linearized.mimi.content import ExternalPart
from linearized.mimi.external_content import KEY_BYTES, NONCE_BYTES, open_file, seal_file

_GONE: Final = 410
_SEALED_TYPE: Final = "application/octet-stream"
# Where providers of our kind keep their files (see ``server.assets``).
_ASSET: Final = re.compile(
    r"https://(?P<host>[^/?#]+)/_matrix/client/v1/media/download/(?P=host)/(?P<media_id>[A-Za-z0-9_-]+)"
)


async def fetch(api: ProviderApi, device: MlsDevice, room_id: str, part: ExternalPart) -> bytes:
    """See ``Session.fetch_file``."""
    # "an optional timestamp after which the external content is invalid"
    if part.expires and part.expires * 1000 <= api.clock():
        raise AssetUnavailable(_GONE)
    try:
        data = await oblivious.download(api, device, room_id, part.url)
    except ObliviousUnavailable:
        asset = _ASSET.fullmatch(part.url)
        if asset is None:
            raise
        data = await api.download_media(asset["host"], asset["media_id"])
    return open_file(part, data)


async def upload(
    api: ProviderApi,
    data: bytes,
    *,
    content_type: str,
    filename: str,
    description: str,
    random: Callable[[int], bytes],
) -> ExternalPart:
    """See ``Session.upload_file``."""
    sealed, part = seal_file(
        data,
        key=random(KEY_BYTES),
        nonce=random(NONCE_BYTES),
        content_type=content_type,
        filename=filename,
        description=description,
    )
    uri = await api.upload_media(sealed, content_type=_SEALED_TYPE)
    server, _, media_id = uri.removeprefix("mxc://").partition("/")
    return replace(part, url=f"https://{server}/_matrix/client/v1/media/download/{server}/{media_id}")
