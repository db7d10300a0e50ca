"""The client-server API of a provider, one typed method per endpoint.

Matrix endpoints are those of the Matrix client-server specification v1.13; the MLS additions live under
``/_matrix/client/unstable/dev.linearized.1``. Every method raises ``ApiError`` when the server refuses,
``ServerUnreachable`` without an answer and ``MalformedAnswer`` for an answer that is not what it should
be. Times are milliseconds since the Unix epoch. ``bytes`` travel as unpadded standard base64.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from linearized.client.errors import MalformedAnswer
from linearized.client.transport import (
    MAX_MEDIA_BYTES,
    POLL_SLACK,
    REQUEST_DEADLINE,
    JsonObject,
    Transport,
)

_V3 = "/_matrix/client/v3"
_MLS = "/_matrix/client/unstable/dev.linearized.1"

# The most events an import page may hold (the server's limit).
MAX_IMPORT_PAGE = 50
# Tells the provider which event of its homeserver a bridge passes on.
SOURCE_PARAMETER = "dev.linearized.source_event_id"
# Bytes of randomness in a transaction ID.
TRANSACTION_ID_BYTES = 16
MEDIA_DEADLINE = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginResult:
    """A session on the server."""

    user_id: str
    device_id: str
    access_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of a room's timeline; ``end`` is the token to continue from, ``None`` at the end."""

    chunk: list[JsonObject]
    end: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Part of a room's log as signed PDUs; ``head_seq`` is the log's length."""

    pdus: list[JsonObject]
    first_seq: int
    head_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportEvent:
    """One event of a bridged room's past, as its homeserver has it."""

    sender: str
    type: str
    content: JsonObject
    origin_server_ts: int
    source_event_id: str
    state_key: str | None = None

    def to_json(self) -> JsonObject:
        """The form the import endpoint takes."""
        value: JsonObject = {
            "sender": self.sender,
            "type": self.type,
            "content": self.content,
            "origin_server_ts": self.origin_server_ts,
            "source_event_id": self.source_event_id,
        }
        if self.state_key is not None:
            value["state_key"] = self.state_key
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """Event IDs of what the log holds now and reasons for what it refused, by source event ID."""

    event_ids: Mapping[str, str]
    failed: Mapping[str, str]


class ProviderApi:
    """A user's or an application service's view of one provider.

    Args:
        base_url: ``https://a.example:8448`` without a trailing slash.
        token: access token, or ``None`` before ``login``.
        user_id, device_id: with an application service's token, whom to act as.
        http: the connection pool; its owner closes it.
        clock: milliseconds since the Unix epoch.
        ids: a random URL-safe token of that many bytes.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None,
        user_id: str | None = None,
        device_id: str | None = None,
        http: httpx.AsyncClient,
        clock: Callable[[], int],
        ids: Callable[[int], str],
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.user_id = user_id
        self.device_id = device_id
        self.clock = clock
        self.ids = ids
        self._token = token
        self._http = http
        query = {"user_id": user_id, "device_id": device_id}
        self._transport = Transport(
            base_url=self.base_url,
            token=token,
            http=http,
            query={name: value for name, value in query.items() if value is not None},
        )

    def __repr__(self) -> str:
        return f"ProviderApi({self.base_url!r}, user_id={self.user_id!r}, device_id={self.device_id!r})"

    def as_user(self, user_id: str, device_id: str | None = None) -> ProviderApi:
        """The same server and application service token, acting as another user (and device)."""
        return ProviderApi(
            self.base_url,
            token=self._token,
            user_id=user_id,
            device_id=device_id,
            http=self._http,
            clock=self.clock,
            ids=self.ids,
        )

    def with_login(self, login: LoginResult) -> ProviderApi:
        """The same server with the access token of a login."""
        return ProviderApi(
            self.base_url, token=login.access_token, http=self._http, clock=self.clock, ids=self.ids
        )

    def transaction_id(self) -> str:
        """A fresh transaction ID."""
        return self.ids(TRANSACTION_ID_BYTES)

    # --- session ---

    async def login(self, user: str, password: str, *, device_id: str | None = None) -> LoginResult:
        """``POST /login`` with a password. A lost answer may leave a device behind; it is not repeated."""
        body: JsonObject = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": user},
            "password": password,
        }
        return await self._login(body, device_id)

    async def login_application_service(self, user: str, *, device_id: str) -> LoginResult:
        """``POST /login`` as an application service for one of its users; creates the device."""
        body: JsonObject = {
            "type": "m.login.application_service",
            "identifier": {"type": "m.id.user", "user": user},
        }
        return await self._login(body, device_id)

    async def _login(self, body: JsonObject, device_id: str | None) -> LoginResult:
        if device_id is not None:
            body["device_id"] = device_id
        answer = await self._transport.json("POST", f"{_V3}/login", body=body, idempotent=False)
        return LoginResult(
            user_id=_string(answer, "user_id"),
            device_id=_string(answer, "device_id"),
            access_token=_string(answer, "access_token"),
        )

    async def register_application_service(self, username: str) -> JsonObject:
        """``POST /register`` with ``m.login.application_service``; ``M_USER_IN_USE`` is the caller's to
        accept.
        """
        body = {"type": "m.login.application_service", "username": username, "inhibit_login": True}
        return await self._transport.json("POST", f"{_V3}/register", body=body, idempotent=False)

    async def whoami(self) -> JsonObject:
        """``GET /account/whoami``."""
        return await self._get("/account/whoami")

    async def logout(self) -> None:
        """``POST /logout``."""
        await self._transport.json("POST", f"{_V3}/logout", body={}, idempotent=False)

    # --- rooms ---

    async def create_room(self, **body: Any) -> str:
        """``POST /createRoom`` with the given body members; returns the room ID."""
        answer = await self._transport.json("POST", f"{_V3}/createRoom", body=body, idempotent=False)
        return _string(answer, "room_id")

    async def join(self, room_id: str) -> str:
        """``POST /join/{room}``; joining twice is joining once."""
        return _string(await self._post(f"/join/{_part(room_id)}", {}, idempotent=True), "room_id")

    async def leave(self, room_id: str) -> None:
        """``POST /rooms/{room}/leave``."""
        await self._post(f"/rooms/{_part(room_id)}/leave", {}, idempotent=True)

    async def invite(self, room_id: str, user_id: str) -> None:
        """``POST /rooms/{room}/invite``."""
        await self._post(f"/rooms/{_part(room_id)}/invite", {"user_id": user_id}, idempotent=False)

    async def kick(self, room_id: str, user_id: str, reason: str = "") -> None:
        """``POST /rooms/{room}/kick``."""
        await self._post(
            f"/rooms/{_part(room_id)}/kick", {"user_id": user_id, "reason": reason}, idempotent=False
        )

    async def joined_rooms(self) -> list[str]:
        """``GET /joined_rooms``."""
        return [
            room for room in _list(await self._get("/joined_rooms"), "joined_rooms") if isinstance(room, str)
        ]

    async def joined_members(self, room_id: str) -> JsonObject:
        """``GET /rooms/{room}/joined_members``: profile by user ID."""
        return _object(await self._get(f"/rooms/{_part(room_id)}/joined_members"), "joined")

    async def state(self, room_id: str) -> list[JsonObject]:
        """``GET /rooms/{room}/state``: the room's current state events."""
        answer = await self._transport.request(
            "GET", f"{_V3}/rooms/{_part(room_id)}/state", idempotent=True, limit=MAX_MEDIA_BYTES
        )
        try:
            events = orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            raise MalformedAnswer("the answer is not JSON") from error
        return _objects(events)

    async def event(self, room_id: str, event_id: str) -> JsonObject:
        """``GET /rooms/{room}/event/{event}``."""
        return await self._get(f"/rooms/{_part(room_id)}/event/{_part(event_id)}")

    async def messages(
        self, room_id: str, *, start: str | None = None, direction: str = "b", limit: int = 100
    ) -> Page:
        """``GET /rooms/{room}/messages``: a page from ``start``, backwards (``b``) or forwards (``f``)."""
        query = {"dir": direction, "limit": str(limit)}
        if start is not None:
            query["from"] = start
        answer = await self._get(f"/rooms/{_part(room_id)}/messages", query)
        end = answer.get("end")
        return Page(chunk=_objects(answer.get("chunk", [])), end=end if isinstance(end, str) else None)

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
        path = f"/rooms/{_part(room_id)}/send/{_part(event_type)}/{_part(txn_id or self.transaction_id())}"
        return _string(await self._put(path, content, ts), "event_id")

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
        path = f"/rooms/{_part(room_id)}/state/{_part(event_type)}/{_part(state_key)}"
        query = {} if source_event_id is None else {SOURCE_PARAMETER: source_event_id}
        return _string(await self._put(path, content, ts, query), "event_id")

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
            "GET", f"{_V3}/sync", query=query, idempotent=True, deadline=timeout_ms / 1000 + POLL_SLACK
        )

    async def log(self, room_id: str, *, after: int, limit: int = 50) -> LogPage:
        """Entries with ``seq > after`` as signed PDUs, ascending; joined users only."""
        query = {"after": str(after), "limit": str(limit)}
        answer = await self._transport.json(
            "GET", f"{_MLS}/rooms/{_part(room_id)}/log", query=query, idempotent=True
        )
        return LogPage(
            pdus=_objects(answer.get("pdus")),
            first_seq=_integer(answer, "first_seq"),
            head_seq=_integer(answer, "head_seq"),
        )

    async def server_keys(self) -> JsonObject:
        """``GET /_matrix/key/v2/server``: the provider's own signing keys."""
        return await self._transport.json("GET", "/_matrix/key/v2/server", idempotent=True)

    # --- MLS ---

    async def keys_upload(
        self, *, one_time: Mapping[str, bytes], fallback: Mapping[str, bytes] | None = None
    ) -> dict[str, int]:
        """``POST /keys/upload`` of KeyPackages by key ID (MSC4244); returns the counts by algorithm.

        Repeating it is harmless: the key ID names the package.
        """
        body: JsonObject = {"one_time_keys": _packages(one_time)}
        if fallback:
            body["fallback_keys"] = _packages(fallback)
        answer = await self._post("/keys/upload", body, idempotent=True)
        counts = _object(answer, "one_time_key_counts")
        return {name: count for name, count in counts.items() if isinstance(count, int)}

    async def update(
        self, room_id: str, bundle: bytes, *, initial_group: tuple[bytes, bytes] | None = None
    ) -> tuple[bytes, str | None]:
        """Submit a ``HandshakeBundle``; returns the ``UpdateRoomResponse`` and the event ID on success.

        ``initial_group`` is (GroupInfo, ratchet tree) of epoch 0, with a room's first commit. The request
        is repeated
        after a lost answer: if it had been accepted, the repetition is answered ``wrongEpoch``.
        """
        body: JsonObject = {"bundle": _encode(bundle)}
        if initial_group is not None:
            group_info, tree = initial_group
            body["initial_group"] = {"group_info": _encode(group_info), "ratchet_tree": _encode(tree)}
        answer = await self._mls(room_id, "mls/update", body, idempotent=True)
        event_id = answer.get("event_id")
        return _decode(answer, "response"), event_id if isinstance(event_id, str) else None

    async def key_material(self, room_id: str, request: bytes) -> bytes:
        """Exchange a ``KeyMaterialRequest`` for a ``KeyMaterialResponse``; every call claims packages."""
        return await self._exchange(room_id, "mls/key_material", request, idempotent=False)

    async def group_info(self, room_id: str, request: bytes) -> bytes:
        """Exchange a ``GroupInfoRequest`` for a ``GroupInfoResponse``."""
        return await self._exchange(room_id, "mls/group_info", request, idempotent=True)

    async def import_events(self, room_id: str, events: Sequence[ImportEvent]) -> ImportResult:
        """Append a bridged room's past, in order, at most ``MAX_IMPORT_PAGE`` at once; repeating is
        harmless.
        """
        body = {"events": [event.to_json() for event in events]}
        answer = await self._mls(room_id, "import", body, idempotent=True)
        return ImportResult(
            event_ids=_strings(_object(answer, "event_ids")), failed=_strings(answer.get("failed", {}))
        )

    # --- media ---

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
        return _string(orjson.loads(answer.body), "content_uri")

    async def download_media(self, server: str, media_id: str) -> bytes:
        """``GET /_matrix/client/v1/media/download/{server}/{id}``."""
        answer = await self._transport.request(
            "GET",
            f"/_matrix/client/v1/media/download/{_part(server)}/{_part(media_id)}",
            idempotent=True,
            deadline=MEDIA_DEADLINE,
            limit=MAX_MEDIA_BYTES,
        )
        return answer.body

    # --- the shapes of requests ---

    async def _get(self, path: str, query: Mapping[str, str] | None = None) -> JsonObject:
        return await self._transport.json("GET", f"{_V3}{path}", query=query, idempotent=True)

    async def _post(self, path: str, body: JsonObject, *, idempotent: bool) -> JsonObject:
        return await self._transport.json("POST", f"{_V3}{path}", body=body, idempotent=idempotent)

    async def _put(
        self, path: str, body: JsonObject, ts: int | None, extra: Mapping[str, str] | None = None
    ) -> JsonObject:
        query = dict(extra or {})
        if ts is not None:
            query["ts"] = str(ts)
        return await self._transport.json("PUT", f"{_V3}{path}", body=body, query=query, idempotent=True)

    async def _mls(self, room_id: str, name: str, body: JsonObject, *, idempotent: bool) -> JsonObject:
        return await self._transport.json(
            "POST",
            f"{_MLS}/rooms/{_part(room_id)}/{name}",
            body=body,
            idempotent=idempotent,
            deadline=REQUEST_DEADLINE,
        )

    async def _exchange(self, room_id: str, name: str, request: bytes, *, idempotent: bool) -> bytes:
        answer = await self._mls(room_id, name, {"request": _encode(request)}, idempotent=idempotent)
        return _decode(answer, "response")


def _part(value: str) -> str:
    return quote(value, safe="")


def _encode(data: bytes) -> str:
    return b64encode(data).decode().rstrip("=")


def _decode(answer: JsonObject, name: str) -> bytes:
    text = _string(answer, name)
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except Base64Error as error:
        raise MalformedAnswer(f"{name!r} in the answer is not base64") from error


def _packages(packages: Mapping[str, bytes]) -> JsonObject:
    return {f"mls:{key_id}": {"key": _encode(package)} for key_id, package in packages.items()}


def _string(answer: Any, name: str) -> str:
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, str):
        raise MalformedAnswer(f"the answer has no {name!r}")
    return value


def _integer(answer: JsonObject, name: str) -> int:
    value = answer.get(name)
    if not isinstance(value, int):
        raise MalformedAnswer(f"the answer has no {name!r}")
    return value


def _object(answer: JsonObject, name: str) -> JsonObject:
    value = answer.get(name)
    if not isinstance(value, dict):
        raise MalformedAnswer(f"the answer has no {name!r}")
    return value


def _list(answer: JsonObject, name: str) -> list[Any]:
    value = answer.get(name)
    if not isinstance(value, list):
        raise MalformedAnswer(f"the answer has no {name!r}")
    return value


def _objects(value: Any) -> list[JsonObject]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise MalformedAnswer("the answer holds no list of objects")
    return value


def _strings(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise MalformedAnswer("the answer holds no object of strings")
    return value
