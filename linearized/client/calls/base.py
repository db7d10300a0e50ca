"""What every call is made of: the transport, and the shapes of requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from linearized.client.answers import decode_binary, encode_binary, path_part
from linearized.client.paths import MLS, V3
from linearized.client.transport import REQUEST_DEADLINE, JsonObject, Transport

# Bytes of randomness in a transaction ID.
TRANSACTION_ID_BYTES: Final = 16
# Seconds for a file or a segment of a log.
MEDIA_DEADLINE: Final = 120.0


class Calls:
    """The base of each part of ``ProviderApi``."""

    ids: Callable[[int], str]
    _transport: Transport

    def transaction_id(self) -> str:
        """A fresh transaction ID."""
        return self.ids(TRANSACTION_ID_BYTES)

    async def _get(self, path: str, query: Mapping[str, str] | None = None) -> JsonObject:
        return await self._transport.json("GET", f"{V3}{path}", query=query, idempotent=True)

    async def _post(self, path: str, body: JsonObject, *, idempotent: bool) -> JsonObject:
        return await self._transport.json("POST", f"{V3}{path}", body=body, idempotent=idempotent)

    async def _put(
        self, path: str, body: JsonObject, ts: int | None, extra: Mapping[str, str] | None = None
    ) -> JsonObject:
        query = dict(extra or {})
        if ts is not None:
            query["ts"] = str(ts)
        return await self._transport.json("PUT", f"{V3}{path}", body=body, query=query, idempotent=True)

    async def _mls(self, room_id: str, name: str, body: JsonObject, *, idempotent: bool) -> JsonObject:
        return await self._transport.json(
            "POST",
            f"{MLS}/rooms/{path_part(room_id)}/{name}",
            body=body,
            idempotent=idempotent,
            deadline=REQUEST_DEADLINE,
        )

    async def _exchange(self, room_id: str, name: str, request: bytes, *, idempotent: bool) -> bytes:
        answer = await self._mls(room_id, name, {"request": encode_binary(request)}, idempotent=idempotent)
        return decode_binary(answer, "response")
