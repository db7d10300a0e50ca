"""Files across the bridge.

Into the room: fetched from the homeserver, encrypted with a fresh AES-128-GCM key, uploaded to the
provider, and referred to by an external part with the key. Out of it: the other way around. History that
is imported in plaintext has its files copied in plaintext.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bridges.matrix.content import OPAQUE, Media, safe_type
from bridges.matrix.database import Database
from bridges.matrix.homeserver import HomeserverApi
from bridges.matrix.megolm.attachments import open_file, seal_file
from linearized.client import ProviderApi, UntrustedAnswer
from linearized.mimi.content import AES_128_GCM, HASH_SHA256, Disposition, ExternalPart, SinglePart

_KEY_BYTES = 16
_NONCE_BYTES = 12
_DOWNLOAD = re.compile(r"https://([^/]+)/_matrix/client/v1/media/download/([^/]+)/([A-Za-z0-9_=-]+)")
_MXC = re.compile(r"mxc://([^/]+)/([A-Za-z0-9_=-]+)")


def download_url(mxc: str) -> str:
    """A provider's file as the ``https`` URL that MIMI wants; clients of other providers ask their own for
    it.
    """
    server, _, media_id = mxc.removeprefix("mxc://").partition("/")
    return f"https://{server}/_matrix/client/v1/media/download/{server}/{media_id}"


def file_of(url: str) -> tuple[str, str]:
    """The server and media ID a URL of ``download_url``, or an ``mxc://`` URI, refers to.

    Raises:
        UntrustedAnswer: it is another kind of URL. Fetching whatever a message names would let its sender
            make requests from inside our network.
    """
    match = _MXC.fullmatch(url)
    if match is not None:
        return match[1], match[2]
    match = _DOWNLOAD.fullmatch(url)
    if match is None or match[1] != match[2]:
        raise UntrustedAnswer("the file is not at a provider we can ask")
    return match[2], match[3]


def seal(data: bytes, *, key: bytes, nonce: bytes) -> bytes:
    """AES-128-GCM with empty additional data, as ``ExternalPart`` describes it by default."""
    return AESGCM(key).encrypt(nonce, data, b"")


def open_part(data: bytes, part: ExternalPart) -> bytes:
    """Check and decrypt the file of an external part.

    Raises:
        UntrustedAnswer: it is not the file the message meant, or encrypted in a way we do not know.
    """
    # The schema says of contentHash: "hash of the content at the target url", that is, before decryption.
    if part.content_hash and (part.hash_alg != HASH_SHA256 or sha256(data).digest() != part.content_hash):
        raise UntrustedAnswer("the file is not the one the message refers to")
    if part.enc_alg == 0:
        return data
    if part.enc_alg != AES_128_GCM:
        raise UntrustedAnswer(f"the file is encrypted with algorithm {part.enc_alg}")
    try:
        return AESGCM(part.key).decrypt(part.nonce, data, part.aad)
    except (InvalidTag, ValueError) as error:
        raise UntrustedAnswer("the file does not decrypt") from error


class MediaCopier:
    """Copies files; each is copied once, whatever happens in between."""

    def __init__(
        self,
        *,
        provider: ProviderApi,
        homeserver: HomeserverApi,
        database: Database,
        random: Callable[[int], bytes],
    ) -> None:
        self._provider = provider
        self._homeserver = homeserver
        self._database = database
        self._random = random

    async def plain_to_provider(self, mxc: str) -> str:
        """A picture of the homeserver as the provider's, in plaintext; the original if it came from there."""
        original = self._source("back", mxc)
        return original or await self.copy_plain(mxc, content_type=OPAQUE, filename="")

    async def plain_to_matrix(self, mxc: str) -> str:
        """A provider's picture that is in plaintext as the homeserver's; the original if it came from there.

        Raises:
            UntrustedAnswer: it is no file of a provider.
        """
        original = self._source("plain", mxc)
        known = original or self._known(f"back {mxc}")
        if known is not None:
            return known
        data = await self._provider.download_media(*file_of(mxc))
        copy = await self._homeserver.upload(data, content_type=OPAQUE, filename="picture")
        return self._remember(f"back {mxc}", copy)

    def _source(self, way: str, copy: str) -> str | None:
        row = self._database.first(
            "SELECT source FROM media WHERE copy = ? AND source LIKE ?", copy, f"{way} %"
        )
        return None if row is None else str(row["source"]).removeprefix(f"{way} ")

    async def copy_plain(self, mxc: str, *, content_type: str, filename: str) -> str:
        """Copy a file to the provider as it is; returns its ``mxc://`` URI there."""
        source = f"plain {mxc}"
        known = self._known(source)
        if known is not None:
            return known
        data = await self._homeserver.download(mxc)
        copy = await self._provider.upload_media(
            data, content_type=safe_type(content_type), filename=filename or None
        )
        return self._remember(source, copy)

    async def to_part(self, media: Media) -> ExternalPart:
        """Encrypt a file and upload it to the provider.

        Raises:
            UntrustedAnswer: it is encrypted in Matrix, and not what the message promised.
        """
        data = await self._homeserver.download(media.url)
        if media.encrypted is not None:
            data = open_file(data, media.encrypted)
        key, nonce = self._random(_KEY_BYTES), self._random(_NONCE_BYTES)
        sealed = seal(data, key=key, nonce=nonce)
        copy = await self._provider.upload_media(sealed, content_type=OPAQUE)
        return ExternalPart(
            disposition=Disposition.INLINE if media.inline else Disposition.ATTACHMENT,
            content_type=media.content_type,
            url=download_url(copy),
            size=len(data),
            enc_alg=AES_128_GCM,
            key=key,
            nonce=nonce,
            hash_alg=HASH_SHA256,
            content_hash=sha256(sealed).digest(),
            description=media.description,
            filename=media.filename,
        )

    async def to_matrix(self, part: ExternalPart | SinglePart, acting: HomeserverApi) -> str:
        """Fetch and decrypt a file, or take it from the message that holds it, and upload it to the
        homeserver as ``acting``; returns its ``mxc://`` URI.

        Raises:
            UntrustedAnswer: it is not what the message promised.
        """
        if isinstance(part, SinglePart):
            return await acting.upload(
                part.content, content_type=safe_type(part.content_type), filename="file"
            )
        source = f"part {part.url} {part.content_hash.hex()}"
        known = self._known(source)
        if known is not None:
            return known
        server, media_id = file_of(part.url)
        data = open_part(await self._provider.download_media(server, media_id), part)
        copy = await acting.upload(
            data, content_type=safe_type(part.content_type), filename=part.filename or "file"
        )
        return self._remember(source, copy)

    async def to_encrypted_room(
        self, part: ExternalPart | SinglePart, acting: HomeserverApi
    ) -> dict[str, Any]:
        """As ``to_matrix``, with the file encrypted for an encrypted room; returns its ``EncryptedFile``.

        Raises:
            UntrustedAnswer: it is not what the message promised.
        """
        source = f"sealed {part.url} {part.content_hash.hex()}" if isinstance(part, ExternalPart) else None
        known = None if source is None else self._known(source)
        if known is not None:
            return dict(json.loads(known))
        if isinstance(part, SinglePart):
            data = part.content
        else:
            server, media_id = file_of(part.url)
            data = open_part(await self._provider.download_media(server, media_id), part)
        sealed, file = seal_file(data, random=self._random)
        file["url"] = await acting.upload(sealed, content_type=OPAQUE, filename="file")
        if source is not None:
            self._remember(source, json.dumps(file))
        return file

    def _known(self, source: str) -> str | None:
        row = self._database.first("SELECT copy FROM media WHERE source = ?", source)
        return None if row is None else str(row["copy"])

    def _remember(self, source: str, copy: str) -> str:
        self._database.run("INSERT OR REPLACE INTO media VALUES (?, ?)", source, copy)
        return copy
