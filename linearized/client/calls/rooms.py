"""Rooms: taking part, reading their state, sending, following."""

from __future__ import annotations

from typing import Any, Final

import orjson

from linearized.client.answers import (
    Page,
    encode_binary,
    json_list,
    json_object,
    json_objects,
    json_string,
    path_part,
)
from linearized.client.calls.base import Calls
from linearized.client.errors import MalformedAnswer
from linearized.client.paths import V3
from linearized.client.transport import MAX_MEDIA_BYTES, POLL_SLACK, JsonObject

# Tells the provider which event of its homeserver a bridge passes on.
SOURCE_PARAMETER: Final = "dev.linearized.source_event_id"


class RoomCalls(Calls):
    """The part of ``ProviderApi`` for these."""

    async def create_room(self, **body: Any) -> str:
        """``POST /createRoom`` with the given body members; returns the room ID."""
        answer = await self._transport.json("POST", f"{V3}/createRoom", body=body, idempotent=False)
        return json_string(answer, "room_id")

    async def join(self, room_id: str) -> str:
        """``POST /join/{room}``; joining twice is joining once."""
        return json_string(await self._post(f"/join/{path_part(room_id)}", {}, idempotent=True), "room_id")

    async def knock(self, room_id: str, reason: str = "") -> None:
        """``POST /knock/{room}``: ask to be invited; asking twice is asking once."""
        body = {"reason": reason} if reason else {}
        await self._post(f"/knock/{path_part(room_id)}", body, idempotent=True)

    async def leave(self, room_id: str) -> None:
        """``POST /rooms/{room}/leave``."""
        await self._post(f"/rooms/{path_part(room_id)}/leave", {}, idempotent=True)

    async def invite(self, room_id: str, user_id: str) -> None:
        """``POST /rooms/{room}/invite``."""
        await self._post(f"/rooms/{path_part(room_id)}/invite", {"user_id": user_id}, idempotent=False)

    async def kick(self, room_id: str, user_id: str, reason: str = "") -> None:
        """``POST /rooms/{room}/kick``."""
        await self._post(
            f"/rooms/{path_part(room_id)}/kick", {"user_id": user_id, "reason": reason}, idempotent=False
        )

    async def report(
        self, room_id: str, event_id: str, *, reason: str = "", content: bytes | None = None
    ) -> None:
        """``POST /rooms/{room}/report/{event}``; with ``content``, what a franked message was decrypted to,
        the hub gets the report.
        """
        body: JsonObject = {"reason": reason}
        if content is not None:
            body["dev.linearized.message_content"] = encode_binary(content)
        await self._post(f"/rooms/{path_part(room_id)}/report/{path_part(event_id)}", body, idempotent=True)

    async def joined_rooms(self) -> list[str]:
        """``GET /joined_rooms``."""
        rooms = json_list(await self._get("/joined_rooms"), "joined_rooms")
        return [room for room in rooms if isinstance(room, str)]

    async def joined_members(self, room_id: str) -> JsonObject:
        """``GET /rooms/{room}/joined_members``: profile by user ID."""
        return json_object(await self._get(f"/rooms/{path_part(room_id)}/joined_members"), "joined")

    async def state(self, room_id: str) -> list[JsonObject]:
        """``GET /rooms/{room}/state``: the room's current state events."""
        answer = await self._transport.request(
            "GET", f"{V3}/rooms/{path_part(room_id)}/state", idempotent=True, limit=MAX_MEDIA_BYTES
        )
        try:
            events = orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise MalformedAnswer("the answer is not JSON") from error
        return json_objects(events)

    async def state_event(self, room_id: str, event_type: str, state_key: str = "") -> JsonObject:
        """``GET /rooms/{room}/state/{type}/{key}?format=event``: one event of the room's current state;
        ``ApiError`` 404 if there is none.
        """
        path = f"/rooms/{path_part(room_id)}/state/{path_part(event_type)}/{path_part(state_key)}"
        return await self._get(path, {"format": "event"})

    async def event(self, room_id: str, event_id: str) -> JsonObject:
        """``GET /rooms/{room}/event/{event}``."""
        return await self._get(f"/rooms/{path_part(room_id)}/event/{path_part(event_id)}")

    async def messages(
        self, room_id: str, *, start: str | None = None, direction: str = "b", limit: int = 100
    ) -> Page:
        """``GET /rooms/{room}/messages``: a page from ``start``, backwards (``b``) or forwards (``f``)."""
        query = {"dir": direction, "limit": str(limit)}
        if start is not None:
            query["from"] = start
        answer = await self._get(f"/rooms/{path_part(room_id)}/messages", query)
        end = answer.get("end")
        return Page(chunk=json_objects(answer.get("chunk", [])), end=end if isinstance(end, str) else None)

    async def send_event(
        self,
        room_id: str,
        event_type: str,
        content: JsonObject,
        *,
        txn_id: str | None = None,
        ts: int | None = None,
    ) -> str:
        """``PUT /rooms/{room}/send/{type}/{txn}``; the same ``txn_id`` never sends twice. Returns the
        event ID.

        Raises:
            WrongEpochError: the content was encrypted for an epoch the room has left.
        """
        key = txn_id or self.transaction_id()
        path = f"/rooms/{path_part(room_id)}/send/{path_part(event_type)}/{path_part(key)}"
        return json_string(await self._put(path, content, ts), "event_id")

    async def send_state(
        self,
        room_id: str,
        event_type: str,
        state_key: str,
        content: JsonObject,
        *,
        ts: int | None = None,
        source_event_id: str | None = None,
    ) -> str:
        """``PUT /rooms/{room}/state/{type}/{key}``; returns the event ID.

        ``ts`` and ``source_event_id``, the ID of the event that a bridge passes on, are for bridges.
        """
        path = f"/rooms/{path_part(room_id)}/state/{path_part(event_type)}/{path_part(state_key)}"
        query = {} if source_event_id is None else {SOURCE_PARAMETER: source_event_id}
        return json_string(await self._put(path, content, ts, query), "event_id")

    async def set_typing(self, room_id: str, user_id: str, *, types: bool, timeout_ms: int) -> None:
        """``PUT /rooms/{room}/typing/{user}``: the user types, for so long unless taken back, or does not.
        Not repeated.
        """
        await self._transport.json(
            "PUT",
            f"{V3}/rooms/{path_part(room_id)}/typing/{path_part(user_id)}",
            body={"typing": True, "timeout": timeout_ms} if types else {"typing": False},
            idempotent=False,
        )

    async def sync(
        self, *, since: str | None, timeout_ms: int, sync_filter: JsonObject | None = None
    ) -> JsonObject:
        """``GET /sync``; waits at the server for up to ``timeout_ms``."""
        query = {"timeout": str(timeout_ms)}
        if since is not None:
            query["since"] = since
        if sync_filter is not None:
            query["filter"] = orjson.dumps(sync_filter).decode()
        return await self._transport.json(
            "GET", f"{V3}/sync", query=query, idempotent=True, deadline=timeout_ms / 1000 + POLL_SLACK
        )
