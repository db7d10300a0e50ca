"""The homeserver as its application service sees it.

Every request acts as a user of ours: ``?user_id=`` and, for what is sent, ``?device_id=``, without which a
repetition after the homeserver's restart would send twice. Transaction IDs are made of what they stand for
and so unique among all our users, because the homeserver tells them apart by application service only.
Raises as ``linearized.client``.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from linearized.client import ApiError, MalformedAnswer, Page
from linearized.client.transport import MAX_MEDIA_BYTES, REQUEST_DEADLINE, Download, Transport

_V3 = "/_matrix/client/v3"
# One device for each ghost; its name is all that matters.
GHOST_DEVICE = "LINEARIZED"
MEDIA_DEADLINE = 120.0
# For a page that it lacks itself, the homeserver first asks others, each for as long as a minute. Asked again
# meanwhile, it begins anew.
PAGE_DEADLINE = 180.0
# Events of 64 KiB, each with the state before it and with its newest edit, stay below what an answer may be
# (``MAX_JSON_BYTES``). Fewer and larger pages are hardly faster.
MAX_PAGE = 250

_CONFLICT = 409
# Said where application services make their devices by ``PUT`` instead of logging in (MSC4190).
NO_LOGIN = "M_APPSERVICE_LOGIN_UNSUPPORTED"

JsonObject = dict[str, Any]
# Given a room, a user of ours, a type and a content, what has to be sent so that they say it: the same, or it
# encrypted.
Seal = Callable[[str, str, str, JsonObject], Awaitable[tuple[str, JsonObject]]]


class HomeserverApi:
    """The homeserver's client API with the application service's token, as ``user_id`` (the bot if
    ``None``). With ``seal``, nothing is sent to a room but what it returns.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str,
        http: httpx.AsyncClient,
        user_id: str | None = None,
        seal: Seal | None = None,
    ) -> None:
        self._base_url, self._token, self._http = base_url, token, http
        self._user_id, self._seal = user_id, seal
        query = {} if user_id is None else {"user_id": user_id}
        self._transport = Transport(base_url=base_url, token=token, http=http, query=query)

    def as_user(self, user_id: str) -> HomeserverApi:
        """The same, acting as someone else."""
        return HomeserverApi(
            self._base_url, token=self._token, http=self._http, user_id=user_id, seal=self._seal
        )

    async def ping(self, service_id: str) -> None:
        """Ask the homeserver to reach us; a success also makes it deliver what waits, at once."""
        await self._json("POST", f"/_matrix/client/v1/appservice/{_part(service_id)}/ping", body={})

    async def register(self, localpart: str) -> bool:
        """Register a user of our namespace, with its device; whether it was new and has one."""
        body = {
            "type": "m.login.application_service",
            "username": localpart,
            "device_id": GHOST_DEVICE,
            "initial_device_display_name": "linearized bridge",
        }
        try:
            try:
                await self._json("POST", f"{_V3}/register", body=body)
            except ApiError as error:
                if error.errcode != NO_LOGIN:
                    raise
                alone = {"type": body["type"], "username": localpart, "inhibit_login": True}
                await self._json("POST", f"{_V3}/register", body=alone)
                return False  # it has no device yet
        except ApiError as error:
            if error.errcode != "M_USER_IN_USE":
                raise
            return False
        return True

    async def ensure_device(self, user_id: str) -> None:
        """Make sure a user that existed before, as whom we act, has our device."""
        await make_device(self._transport, user_id, GHOST_DEVICE)

    async def set_display_name(self, user_id: str, name: str) -> None:
        """Set the acting user's display name."""
        await self._json("PUT", f"{_V3}/profile/{_part(user_id)}/displayname", body={"displayname": name})

    async def set_avatar(self, user_id: str, url: str) -> None:
        """Set the acting user's picture, an ``mxc://`` URI."""
        await self._json("PUT", f"{_V3}/profile/{_part(user_id)}/avatar_url", body={"avatar_url": url})

    async def resolve_alias(self, alias: str) -> str:
        """The ID of the room that an alias names; ``ApiError`` 404 if none."""
        answer = await self._json("GET", f"{_V3}/directory/room/{_part(alias)}")
        room_id = answer.get("room_id")
        if not isinstance(room_id, str):
            raise MalformedAnswer("the answer has no room_id")
        return room_id

    async def set_alias(self, alias: str, room_id: str) -> None:
        """Let an alias name a room; one that does already is no error."""
        try:
            await self._json("PUT", f"{_V3}/directory/room/{_part(alias)}", body={"room_id": room_id})
        except ApiError as error:
            if error.status != _CONFLICT:
                raise

    async def create_room(self, alias_localpart: str) -> str:
        """Make a room that whoever is invited may join, named by an alias; returns its ID.

        Not repeated when the answer is lost; ``ApiError`` ``M_ROOM_IN_USE`` if the alias names a room.
        """
        body = {"preset": "private_chat", "room_alias_name": alias_localpart}
        answer = await self._transport.json("POST", f"{_V3}/createRoom", body=body, idempotent=False)
        room_id = answer.get("room_id")
        if not isinstance(room_id, str):
            raise MalformedAnswer("the answer has no room_id")
        return room_id

    async def join(self, room_id: str) -> None:
        """Join; joining twice is joining once."""
        await self._json("POST", f"{_V3}/join/{_part(room_id)}", body={})

    async def knock(self, room_id: str, *, reason: str = "") -> None:
        """Ask to be invited; asking twice is asking once."""
        await self._json("POST", f"{_V3}/knock/{_part(room_id)}", body=_why(reason))

    async def leave(self, room_id: str, *, reason: str = "") -> None:
        """Leave, or take back a knock."""
        await self._json("POST", f"{_V3}/rooms/{_part(room_id)}/leave", body=_why(reason))

    async def kick(self, room_id: str, user_id: str, *, reason: str) -> None:
        """Remove a user, or take back their invitation."""
        await self._member(room_id, "kick", user_id, reason)

    async def ban(self, room_id: str, user_id: str, *, reason: str) -> None:
        """Ban a user, who need not be in the room."""
        await self._member(room_id, "ban", user_id, reason)

    async def unban(self, room_id: str, user_id: str, *, reason: str) -> None:
        """End a ban."""
        await self._member(room_id, "unban", user_id, reason)

    async def invite(self, room_id: str, user_id: str, *, reason: str = "") -> None:
        """Invite a user; one who is invited already is no error."""
        await self._member(room_id, "invite", user_id, reason)

    async def _member(self, room_id: str, act: str, user_id: str, reason: str) -> None:
        body = {"user_id": user_id, **_why(reason)}
        await self._json("POST", f"{_V3}/rooms/{_part(room_id)}/{act}", body=body)

    async def send(
        self, room_id: str, event_type: str, content: JsonObject, *, txn_id: str, ts: int | None = None
    ) -> str:
        """Send an event, encrypted if the room is; the same ``txn_id`` sends once. ``ts`` is in milliseconds
        since the Unix epoch.

        Raises:
            RoomClosed: the room is encrypted, and we take no part in that.
        """
        if self._seal is not None and self._user_id is not None:
            event_type, content = await self._seal(room_id, self._user_id, event_type, content)
        return await self._send(room_id, event_type, content, txn_id=txn_id, ts=ts)

    async def say_in_the_clear(self, room_id: str, text: str, *, txn_id: str) -> None:
        """Say something that is no secret in a room whose encryption we take no part in, as a notice."""
        content = {"msgtype": "m.notice", "body": text}
        await self._send(room_id, "m.room.message", content, txn_id=txn_id, ts=None)

    async def _send(
        self, room_id: str, event_type: str, content: JsonObject, *, txn_id: str, ts: int | None
    ) -> str:
        path = f"{_V3}/rooms/{_part(room_id)}/send/{_part(event_type)}/{_part(txn_id)}"
        return await self._put(path, content, ts)

    async def redact(self, room_id: str, event_id: str, *, txn_id: str, ts: int | None = None) -> str:
        """Redact an event; sent as an event so that ``ts`` counts."""
        return await self.send(room_id, "m.room.redaction", {"redacts": event_id}, txn_id=txn_id, ts=ts)

    async def receipt(self, room_id: str, event_id: str) -> None:
        """The acting user has read a room up to an event, and anyone there may know."""
        await self._json("POST", f"{_V3}/rooms/{_part(room_id)}/receipt/m.read/{_part(event_id)}", body={})

    async def set_typing(self, room_id: str, user_id: str, *, types: bool, timeout_ms: int) -> None:
        """The acting user, by its ID, types in a room, for so long unless taken back, or does not."""
        body = {"typing": True, "timeout": timeout_ms} if types else {"typing": False}
        await self._json("PUT", f"{_V3}/rooms/{_part(room_id)}/typing/{_part(user_id)}", body=body)

    async def set_state(
        self, room_id: str, event_type: str, state_key: str, content: JsonObject, *, ts: int | None = None
    ) -> str:
        """Set a state event; setting what is set already changes nothing."""
        return await self._put(
            f"{_V3}/rooms/{_part(room_id)}/state/{_part(event_type)}/{_part(state_key)}", content, ts
        )

    async def state(self, room_id: str) -> list[JsonObject]:
        """The room's current state."""
        answer = await self._transport.request(
            "GET", f"{_V3}/rooms/{_part(room_id)}/state", idempotent=True, limit=MAX_MEDIA_BYTES
        )
        events = orjson.loads(answer.body)
        if not isinstance(events, list):
            raise MalformedAnswer("the room's state is no list")
        return [event for event in events if isinstance(event, dict)]

    async def state_event(self, room_id: str, event_type: str, state_key: str = "") -> JsonObject:
        """One event of the room's current state; ``ApiError`` 404 if there is none."""
        path = f"{_V3}/rooms/{_part(room_id)}/state/{_part(event_type)}/{_part(state_key)}"
        return await self._json("GET", path, query={"format": "event"})

    async def event(self, room_id: str, event_id: str) -> JsonObject:
        """One event of a room that the acting user is in."""
        return await self._json("GET", f"{_V3}/rooms/{_part(room_id)}/event/{_part(event_id)}")

    async def joined_members(self, room_id: str) -> dict[str, JsonObject]:
        """Profiles of the joined users, by user ID."""
        answer = await self._json("GET", f"{_V3}/rooms/{_part(room_id)}/joined_members")
        joined = answer.get("joined")
        return joined if isinstance(joined, dict) else {}

    async def invited_members(self, room_id: str) -> list[str]:
        """The users who are invited and have not answered."""
        path = f"{_V3}/rooms/{_part(room_id)}/members"
        answer = await self._json("GET", path, query={"membership": "invite"})
        chunk = answer.get("chunk")
        events = [event for event in chunk if isinstance(event, dict)] if isinstance(chunk, list) else []
        return [user for event in events if isinstance(user := event.get("state_key"), str)]

    async def messages_before(self, room_id: str, token: str | None, *, limit: int = MAX_PAGE) -> Page:
        """A page of the timeline, newest first, from ``token`` (the newest event if ``None``) backwards."""
        query = {"dir": "b", "limit": str(limit)}
        if token is not None:
            query["from"] = token
        path = f"{_V3}/rooms/{_part(room_id)}/messages"
        answer = await self._json("GET", path, query=query, deadline=PAGE_DEADLINE)
        chunk, end = answer.get("chunk"), answer.get("end")
        if not isinstance(chunk, list):
            raise MalformedAnswer("the page of messages has no chunk")
        events = [event for event in chunk if isinstance(event, dict)]
        return Page(chunk=events, end=end if isinstance(end, str) else None)

    def download_stream(self, server: str, media_id: str) -> AbstractAsyncContextManager[Download]:
        """The file behind an ``mxc://`` URI of these parts, as it comes."""
        path = f"/_matrix/client/v1/media/download/{_part(server)}/{_part(media_id)}"
        return self._transport.download(path, limit=MAX_MEDIA_BYTES)

    async def upload_stream(
        self, chunks: AsyncIterable[bytes], *, size: int, content_type: str, filename: str | None = None
    ) -> str:
        """Upload a file that comes piece by piece, ``size`` bytes in all; returns its ``mxc://`` URI. Not
        repeated.
        """
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
        uri = orjson.loads(answer.body).get("content_uri")
        if not isinstance(uri, str):
            raise MalformedAnswer("the upload has no content_uri")
        return uri

    async def _put(self, path: str, content: JsonObject, ts: int | None) -> str:
        query = {"device_id": GHOST_DEVICE}
        if ts is not None:
            query["ts"] = str(ts)
        answer = await self._json("PUT", path, body=content, query=query)
        event_id = answer.get("event_id")
        if not isinstance(event_id, str):
            raise MalformedAnswer("the answer has no event_id")
        return event_id

    async def _json(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        deadline: float = REQUEST_DEADLINE,
    ) -> JsonObject:
        # Every request here may be repeated: they set something, or carry a transaction ID.
        return await self._transport.json(
            method, path, body=body, query=query, idempotent=True, deadline=deadline
        )


async def make_device(as_user: Transport, user_id: str, device_id: str) -> None:
    """Make a device exist: by logging in or, where application services may not, by ``PUT`` (MSC4190)."""
    name = "linearized bridge"
    body = {
        "type": "m.login.application_service",
        "identifier": {"type": "m.id.user", "user": user_id},
        "device_id": device_id,
        "initial_device_display_name": name,
    }
    try:
        await as_user.json("POST", f"{_V3}/login", body=body, idempotent=True)
    except ApiError as error:
        if error.errcode != NO_LOGIN:
            raise
        path = f"{_V3}/devices/{_part(device_id)}"
        await as_user.json("PUT", path, body={"display_name": name}, idempotent=True)


def _why(reason: str) -> dict[str, str]:
    return {"reason": reason} if reason else {}


def _part(value: str) -> str:
    return quote(value, safe="")
