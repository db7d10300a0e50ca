"""Files across the bridge.

Into the room: fetched from the homeserver, encrypted with a fresh AES-128-GCM key, uploaded to the
provider, and referred to by an external part with the key. Out of it: the other way around. History that
is imported in plaintext has its files copied in plaintext. A file is never whole in memory, nor on disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Protocol

from bridges.matrix.attachments import OPAQUE, Media, safe_type
from bridges.matrix.ciphers import (
    PART_KEY_BYTES,
    PART_NONCE_BYTES,
    Cipher,
    FileOpener,
    FileSealer,
    PartOpener,
    PartSealer,
    through,
    whole,
)
from bridges.matrix.database import Database
from bridges.matrix.homeserver import HomeserverApi
from linearized.client import Download, ProviderApi, UntrustedAnswer, repeated
from linearized.client.transport import MAX_MEDIA_BYTES
from linearized.mimi.content import AES_128_GCM, HASH_SHA256, Disposition, ExternalPart, SinglePart

# Neither side takes a larger one.
MAX_FILE_BYTES = MAX_MEDIA_BYTES
# A picture of 800 by 600 pixels, the largest that homeservers make as a thumbnail, is smaller in any format.
MAX_THUMBNAIL_BYTES = 2 * 1024 * 1024
_DOWNLOAD = re.compile(r"https://([^/]+)/_matrix/client/v1/media/download/([^/]+)/([A-Za-z0-9_=-]+)")
_MXC = re.compile(r"mxc://([^/]+)/([A-Za-z0-9_=-]+)")


def download_url(mxc: str) -> str:
    """A provider's file as the ``https`` URL that MIMI wants; clients of other providers ask their own for
    it.
    """
    server, media_id = matrix_file(mxc)
    return f"https://{server}/_matrix/client/v1/media/download/{server}/{media_id}"


def matrix_file(mxc: str) -> tuple[str, str]:
    """The server and media ID of an ``mxc://`` URI, whatever they are made of."""
    server, _, media_id = mxc.removeprefix("mxc://").partition("/")
    return server, media_id


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


class Files(Protocol):
    """Either side, as far as it has files."""

    def download_stream(self, server: str, media_id: str) -> AbstractAsyncContextManager[Download]:
        """A file as it comes."""
        ...

    async def upload_stream(
        self, chunks: AsyncIterable[bytes], *, size: int, content_type: str, filename: str | None = None
    ) -> str:
        """Upload a file of ``size`` bytes; returns its ``mxc://`` URI."""
        ...


async def carry(
    source: Files,
    place: tuple[str, str],
    to: Files,
    *,
    ciphers: Sequence[Cipher] = (),
    content_type: str,
    filename: str | None = None,
    limit: int = MAX_FILE_BYTES,
) -> str:
    """Copy a file from one side to the other through ciphers, piece by piece; returns its ``mxc://`` URI
    there. It is nowhere in between but for the pieces on their way. Not repeated.

    Args:
        place: the server and the media ID.
        content_type, filename: what is said of it there.
        limit: in bytes; a longer one is not carried.

    Raises:
        UntrustedAnswer: it is not the file that it should be, or too large.
    """
    async with source.download_stream(*place) as found:
        if found.size is not None and found.size > limit:
            raise UntrustedAnswer(f"the file is larger than {limit} bytes")
        chunks, size = _bounded(found.chunks, limit), found.size
        if size is None:  # whoever uploads has to say it
            data = b"".join([chunk async for chunk in chunks])
            chunks, size = _one(data), len(data)
        size += sum(cipher.growth for cipher in ciphers)
        if size < 0:
            raise UntrustedAnswer("the file is too short to be what the message means")
        async with aclosing(through(chunks, ciphers)) as carried:
            return await to.upload_stream(carried, size=size, content_type=content_type, filename=filename)


async def _bounded(chunks: AsyncIterable[bytes], limit: int) -> AsyncGenerator[bytes, None]:
    """A file of at most ``limit`` bytes, whatever was said of its length."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise UntrustedAnswer(f"the file is larger than {limit} bytes")
        yield chunk


async def _one(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


def forget_uploads(database: Database) -> None:
    """Forget which files the homeserver has copies of: it may have them no longer."""
    database.run(
        "DELETE FROM media WHERE source LIKE 'part %' OR source LIKE 'sealed %' OR source LIKE 'back %'"
    )


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
        place = file_of(mxc)

        async def once() -> str:
            return await carry(
                self._provider, place, self._homeserver, content_type=OPAQUE, filename="picture"
            )

        return self._remember(f"back {mxc}", await repeated(once))

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
        place, kind = matrix_file(mxc), safe_type(content_type)

        async def once() -> str:
            return await carry(
                self._homeserver, place, self._provider, content_type=kind, filename=filename or None
            )

        return self._remember(source, await repeated(once))

    async def to_part(self, media: Media, *, limit: int = MAX_FILE_BYTES) -> ExternalPart:
        """Encrypt a file of at most ``limit`` bytes and upload it to the provider.

        Raises:
            UntrustedAnswer: it is too large, or it is encrypted in Matrix and not what the message promised.
        """
        place = matrix_file(media.url)

        async def once() -> tuple[str, PartSealer]:
            key, nonce = self._random(PART_KEY_BYTES), self._random(PART_NONCE_BYTES)
            # Another key each time: what came of an attempt that failed, nobody can compare with the next.
            sealer = PartSealer(key=key, nonce=nonce)
            opener = () if media.encrypted is None else (FileOpener(media.encrypted),)
            ciphers = (*opener, sealer)
            copy = await carry(
                self._homeserver, place, self._provider, ciphers=ciphers, content_type=OPAQUE, limit=limit
            )
            return copy, sealer

        copy, sealer = await repeated(once)
        return ExternalPart(
            disposition=Disposition.INLINE if media.inline else Disposition.ATTACHMENT,
            content_type=media.content_type,
            url=download_url(copy),
            size=sealer.size,
            enc_alg=AES_128_GCM,
            key=sealer.key,
            nonce=sealer.nonce,
            hash_alg=HASH_SHA256,
            content_hash=sealer.content_hash,
            description=media.description,
            filename=media.filename,
        )

    async def to_matrix(
        self, part: ExternalPart | SinglePart, acting: HomeserverApi, *, limit: int = MAX_FILE_BYTES
    ) -> str:
        """Fetch and decrypt a file of at most ``limit`` bytes, or take it from the message that holds it, and
        upload it to the homeserver as ``acting``; returns its ``mxc://`` URI.

        Raises:
            UntrustedAnswer: it is not what the message promised.
        """
        content_type = safe_type(part.content_type)
        if isinstance(part, SinglePart):
            _check_held(part, limit)
            return await _upload(acting, part.content, content_type=content_type)
        source = f"part {part.url} {part.content_hash.hex()}"
        known = self._known(source)
        if known is not None:
            return known
        place, filename = file_of(part.url), part.filename or "file"

        async def once() -> str:
            ciphers = (PartOpener(part),)
            return await carry(
                self._provider,
                place,
                acting,
                ciphers=ciphers,
                content_type=content_type,
                filename=filename,
                limit=limit,
            )

        return self._remember(source, await repeated(once))

    async def to_encrypted_room(
        self, part: ExternalPart | SinglePart, acting: HomeserverApi, *, limit: int = MAX_FILE_BYTES
    ) -> dict[str, Any]:
        """As ``to_matrix``, with the file encrypted for an encrypted room; returns its ``EncryptedFile``.

        Raises:
            UntrustedAnswer: it is not what the message promised.
        """
        if isinstance(part, SinglePart):
            _check_held(part, limit)
            sealer = FileSealer(self._random)
            sealed = whole(sealer, part.content)
            return {**sealer.file, "url": await _upload(acting, sealed, content_type=OPAQUE)}
        source = f"sealed {part.url} {part.content_hash.hex()}"
        known = self._known(source)
        if known is not None:
            return dict(json.loads(known))
        place = file_of(part.url)

        async def once() -> dict[str, Any]:
            sealer = FileSealer(self._random)
            ciphers = (PartOpener(part), sealer)
            url = await carry(
                self._provider,
                place,
                acting,
                ciphers=ciphers,
                content_type=OPAQUE,
                filename="file",
                limit=limit,
            )
            return {**sealer.file, "url": url}

        file = await repeated(once)
        self._remember(source, json.dumps(file))
        return file

    def _known(self, source: str) -> str | None:
        row = self._database.first("SELECT copy FROM media WHERE source = ?", source)
        return None if row is None else str(row["copy"])

    def _remember(self, source: str, copy: str) -> str:
        self._database.run("INSERT OR REPLACE INTO media VALUES (?, ?)", source, copy)
        return copy


def _check_held(part: SinglePart, limit: int) -> None:
    if len(part.content) > limit:
        raise UntrustedAnswer(f"the file is larger than {limit} bytes")


async def _upload(acting: HomeserverApi, data: bytes, *, content_type: str) -> str:
    """Upload what a message holds."""

    async def once() -> str:
        return await acting.upload_stream(
            _one(data), size=len(data), content_type=content_type, filename="file"
        )

    return await repeated(once)
