"""Files, also obliviously, and what goes before that."""

from __future__ import annotations

from collections.abc import AsyncIterable
from contextlib import AbstractAsyncContextManager

import orjson

from linearized.client.answers import json_string, path_part
from linearized.client.calls.base import MEDIA_DEADLINE, Calls
from linearized.client.paths import MLS
from linearized.client.transport import MAX_MEDIA_BYTES, Download
from linearized.mimi.metadata_policy import MAX_DOCUMENT_BYTES
from linearized.mimi.ohttp import MAX_KEYS_BYTES, REQUEST_TYPE


class FileCalls(Calls):
    """The part of ``ProviderApi`` for these."""

    async def upload_media(self, data: bytes, *, content_type: str, filename: str | None = None) -> str:
        """``POST /media/v3/upload``; returns the ``mxc://`` URI. A lost answer leaves an orphan file, no
        more.
        """
        answer = await self._transport.request(
            "POST",
            "/_matrix/media/v3/upload",
            content=data,
            headers={"Content-Type": content_type},
            query={"filename": filename} if filename else None,
            idempotent=True,
            deadline=MEDIA_DEADLINE,
            limit=MAX_MEDIA_BYTES,
        )
        return json_string(orjson.loads(answer.body), "content_uri")

    async def upload_stream(
        self,
        chunks: AsyncIterable[bytes],
        *,
        size: int,
        content_type: str,
        filename: str | None = None,
    ) -> str:
        """As ``upload_media``, with a file that comes piece by piece, ``size`` bytes in all. Not repeated."""
        answer = await self._transport.request(
            "POST",
            "/_matrix/media/v3/upload",
            content=chunks,
            headers={"Content-Type": content_type, "Content-Length": str(size)},
            query={"filename": filename} if filename else None,
            idempotent=False,
            deadline=MEDIA_DEADLINE,
            limit=MAX_MEDIA_BYTES,
        )
        return json_string(orjson.loads(answer.body), "content_uri")

    def download_stream(self, server: str, media_id: str) -> AbstractAsyncContextManager[Download]:
        """As ``download_media``, piece by piece. Not repeated; the caller has a deadline."""
        path = f"/_matrix/client/v1/media/download/{path_part(server)}/{path_part(media_id)}"
        return self._transport.download(path, limit=MAX_MEDIA_BYTES)

    async def download_media(self, server: str, media_id: str) -> bytes:
        """``GET /_matrix/client/v1/media/download/{server}/{id}``."""
        answer = await self._transport.request(
            "GET",
            f"/_matrix/client/v1/media/download/{path_part(server)}/{path_part(media_id)}",
            idempotent=True,
            deadline=MEDIA_DEADLINE,
            limit=MAX_MEDIA_BYTES,
        )
        return answer.body

    # --- oblivious downloads, metadata policies ---

    async def metadata_policy(self, hub: str) -> bytes:
        """``GET metadata_policy/{hub}``: the hub's SignedMetadataPolicy, unchecked."""
        answer = await self._transport.request(
            "GET",
            f"{MLS}/metadata_policy/{path_part(hub)}",
            idempotent=True,
            limit=2 * MAX_DOCUMENT_BYTES,
        )
        return answer.body

    async def gateway_keys(self, gateway: str) -> bytes:
        """``GET ohttp/{gateway}/keys``: the SignedKeyConfigs of a hub, unchecked."""
        answer = await self._transport.request(
            "GET", f"{MLS}/ohttp/{path_part(gateway)}/keys", idempotent=True, limit=2 * MAX_KEYS_BYTES
        )
        return answer.body

    async def oblivious(self, gateway: str, sealed: bytes) -> bytes:
        """``POST ohttp/{gateway}``: have our provider relay an Encapsulated Request of RFC 9458; gives the
        Encapsulated Response.
        """
        answer = await self._transport.request(
            "POST",
            f"{MLS}/ohttp/{path_part(gateway)}",
            content=sealed,
            headers={"Content-Type": REQUEST_TYPE},
            idempotent=True,
            deadline=MEDIA_DEADLINE,
            limit=MAX_MEDIA_BYTES + MAX_MEDIA_BYTES // 8,
        )
        return answer.body
