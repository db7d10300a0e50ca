"""The homeserver as one of its own users, with an access token that they gave the bridge.

Nothing here is repeated by itself: when a homeserver limits somebody, their ghost speaks instead of everybody
waiting. Transaction IDs count for the device of the token. Raises as ``linearized.client``.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx

from linearized.client import MalformedAnswer
from linearized.client.transport import Transport

_V3 = "/_matrix/client/v3"

JsonObject = dict[str, Any]


class UserApi:
    """Requests with a user's token."""

    def __init__(self, base_url: str, *, token: str, http: httpx.AsyncClient) -> None:
        self._transport = Transport(base_url=base_url, token=token, http=http, query={})

    async def whoami(self) -> str:
        """Whose token it is: a user ID; ``ApiError`` 401 if it is nobody's."""
        answer = await self._transport.json("GET", f"{_V3}/account/whoami", idempotent=True)
        user_id = answer.get("user_id")
        if not isinstance(user_id, str):
            raise MalformedAnswer("the answer has no user_id")
        return user_id

    async def send(self, room_id: str, event_type: str, content: JsonObject, *, txn_id: str) -> str:
        """Send an event, in the clear; the same ``txn_id`` of the same device sends once."""
        return await self._put(room_id, f"send/{_part(event_type)}/{_part(txn_id)}", content)

    async def redact(self, room_id: str, event_id: str, *, txn_id: str) -> str:
        """Redact an event; as ``send``."""
        return await self._put(room_id, f"redact/{_part(event_id)}/{_part(txn_id)}", {})

    async def receipt(self, room_id: str, event_id: str) -> None:
        """The user has read a room up to an event."""
        path = f"{_V3}/rooms/{_part(room_id)}/receipt/m.read/{_part(event_id)}"
        await self._transport.json("POST", path, body={}, idempotent=False)

    async def _put(self, room_id: str, act: str, content: JsonObject) -> str:
        path = f"{_V3}/rooms/{_part(room_id)}/{act}"
        answer = await self._transport.json("PUT", path, body=content, idempotent=False)
        event_id = answer.get("event_id")
        if not isinstance(event_id, str):
            raise MalformedAnswer("the answer has no event_id")
        return event_id


def _part(value: str) -> str:
    return quote(value, safe="")
