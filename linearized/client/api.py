"""The client-server API of a provider, one typed method per endpoint.

Matrix endpoints are those of the Matrix client-server specification v1.13; the MLS additions live under
``/_matrix/client/unstable/dev.linearized.1``. Every method raises ``ApiError`` when the server refuses,
``ServerUnreachable`` without an answer and ``MalformedAnswer`` for an answer that is not what it should
be. Times are milliseconds since the Unix epoch. ``bytes`` travel as unpadded standard base64.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import httpx
import orjson

from linearized.client.answers import (
    ImportEvent,
    ImportResult,
    Inclusion,
    LoginResult,
    LogPage,
    Page,
    SegmentIndex,
    SignedCheckpoint,
    decode_binaries,
    decode_binary,
    encode_binary,
    json_integer,
    json_list,
    json_object,
    json_objects,
    json_string,
    json_strings,
    key_objects,
    path_part,
)
from linearized.client.archive.calls import ArchiveCalls
from linearized.client.errors import ApiError, MalformedAnswer
from linearized.client.paths import MLS, V3
from linearized.client.transport import (
    MAX_MEDIA_BYTES,
    POLL_SLACK,
    REQUEST_DEADLINE,
    JsonObject,
    Transport,
)
from linearized.mimi.metadata_policy import MAX_DOCUMENT_BYTES
from linearized.mimi.ohttp import MAX_KEYS_BYTES, REQUEST_TYPE
from linearized.room.segments import MAX_SEGMENT_BYTES, SEGMENT

# The most events an import page may hold (the server's limit).
MAX_IMPORT_PAGE = 50
# Tells the provider which event of its homeserver a bridge passes on.
SOURCE_PARAMETER = "dev.linearized.source_event_id"
# Names the pseudonym that an account acts as.
PSEUDONYM_PARAMETER = "dev.linearized.pseudonym"
FRANKING_CAPABILITY = "dev.linearized.franking"
# Bytes of randomness in a transaction ID.
TRANSACTION_ID_BYTES = 16
MEDIA_DEADLINE = 120.0
_NOT_FOUND = 404


class ProviderApi(ArchiveCalls):
    """A user's or an application service's view of one provider.

    Args:
        base_url: ``https://a.example:8448`` without a trailing slash.
        token: access token, or ``None`` before ``login``.
        user_id, device_id: with an application service's token, whom to act as.
        pseudonym: with an account's token, the pseudonym of it to act as; ``device_id`` is one of that.
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
        pseudonym: str | None = None,
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
        query = {"user_id": user_id, "device_id": device_id, PSEUDONYM_PARAMETER: pseudonym}
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

    def as_pseudonym(self, pseudonym: str, device_id: str) -> ProviderApi:
        """The same account, acting as a device of one of its pseudonyms (a user ID)."""
        return ProviderApi(
            self.base_url,
            token=self._token,
            pseudonym=pseudonym,
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
        answer = await self._transport.json("POST", f"{V3}/login", body=body, idempotent=False)
        return LoginResult(
            user_id=json_string(answer, "user_id"),
            device_id=json_string(answer, "device_id"),
            access_token=json_string(answer, "access_token"),
        )

    async def register_application_service(self, username: str) -> JsonObject:
        """``POST /register`` with ``m.login.application_service``; ``M_USER_IN_USE`` is the caller's to
        accept.
        """
        body = {"type": "m.login.application_service", "username": username, "inhibit_login": True}
        return await self._transport.json("POST", f"{V3}/register", body=body, idempotent=False)

    async def whoami(self) -> JsonObject:
        """``GET /account/whoami``."""
        return await self._get("/account/whoami")

    async def logout(self) -> None:
        """``POST /logout``."""
        await self._transport.json("POST", f"{V3}/logout", body={}, idempotent=False)

    # --- rooms ---

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

    async def log(self, room_id: str, *, after: int, limit: int = 50) -> LogPage:
        """Entries with ``seq > after`` as signed PDUs, ascending; joined users only."""
        query = {"after": str(after), "limit": str(limit)}
        answer = await self._transport.json(
            "GET", f"{MLS}/rooms/{path_part(room_id)}/log", query=query, idempotent=True
        )
        return LogPage(
            pdus=json_objects(answer.get("pdus")),
            first_seq=json_integer(answer, "first_seq"),
            head_seq=json_integer(answer, "head_seq"),
        )

    async def live(
        self,
        room_id: str,
        *,
        after: int,
        take: Callable[[bytes], Awaitable[None]],
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """One connection's server-sent events of entries with ``seq > after``, in pieces as they come; see
        ``linearized.client.live`` for what to use instead. Returns when the server ends it.
        """
        path = f"{MLS}/rooms/{path_part(room_id)}/live"
        await self._transport.stream(path, take=take, query={"from": str(after + 1)}, http=http)

    async def segments(self, room_id: str) -> SegmentIndex:
        """Which segments of a room's log the server has for us; of rooms it orders."""
        answer = await self._transport.json(
            "GET", f"{MLS}/rooms/{path_part(room_id)}/segments", idempotent=True
        )
        runs = [run for run in json_list(answer, "segments") if isinstance(run, list)]
        if json_integer(answer, "entries") != SEGMENT or not all(_is_run(run) for run in runs):
            raise MalformedAnswer("the server's segments are not what they should be")
        return SegmentIndex(
            head_seq=json_integer(answer, "head_seq"), runs=tuple((run[0], run[1]) for run in runs)
        )

    async def segment(self, room_id: str, number: int) -> bytes:
        """One segment, packed (see ``linearized.room.segments``)."""
        answer = await self._transport.request(
            "GET",
            f"{MLS}/rooms/{path_part(room_id)}/segments/{number}",
            idempotent=True,
            deadline=MEDIA_DEADLINE,
            limit=MAX_SEGMENT_BYTES,
        )
        return answer.body

    async def keys_of(self, server: str) -> list[JsonObject]:
        """``GET /_matrix/key/v2/query/{server}``: another server's keys, as the provider knows them."""
        path = f"/_matrix/key/v2/query/{path_part(server)}"
        answer = await self._transport.json("GET", path, idempotent=True)
        return json_objects(answer.get("server_keys"))

    async def checkpoint(self, room_id: str, *, size: int | None = None) -> SignedCheckpoint:
        """The hub's signed statement about its log, or about the first ``size`` entries of it."""
        answer = await self._transport.json(
            "GET",
            f"{MLS}/rooms/{path_part(room_id)}/checkpoint",
            query={} if size is None else {"size": str(size)},
            idempotent=True,
        )
        return SignedCheckpoint(note=json_string(answer, "checkpoint"), key_id=json_string(answer, "key_id"))

    async def inclusion(self, room_id: str, event_id: str, *, size: int) -> Inclusion:
        """The hub's proof that an event is among the first ``size`` entries of its log."""
        answer = await self._transport.json(
            "GET",
            f"{MLS}/rooms/{path_part(room_id)}/proof/inclusion",
            query={"event_id": event_id, "size": str(size)},
            idempotent=True,
        )
        return Inclusion(
            seq=json_integer(answer, "seq"),
            size=json_integer(answer, "size"),
            path=decode_binaries(answer, "hashes"),
        )

    async def server_keys(self) -> JsonObject:
        """``GET /_matrix/key/v2/server``: the provider's own signing keys."""
        return await self._transport.json("GET", "/_matrix/key/v2/server", idempotent=True)

    # --- consent ---

    async def consents(self) -> list[JsonObject]:
        """Who asked for this user's consent or was asked for theirs, and what came of it, latest first."""
        answer = await self._transport.json("GET", f"{MLS}/consents", idempotent=True)
        return json_objects(answer.get("consents"))

    async def require_consent(self, *, required: bool) -> None:
        """Whether others need a grant before they can add this user to rooms."""
        await self._transport.json(
            "PUT", f"{MLS}/consents/required", body={"required": required}, idempotent=True
        )

    async def request_consent(self, user_id: str, *, room_id: str | None = None) -> None:
        """Ask a user for their consent to be added to a room, or to any."""
        await self._consent("request", user_id, room_id)

    async def cancel_consent(self, user_id: str, *, room_id: str | None = None) -> None:
        """Take such a request back."""
        await self._consent("cancel", user_id, room_id)

    async def grant_consent(
        self, user_id: str, *, room_id: str | None = None, key_packages: bool = False
    ) -> None:
        """Let a user add this one; with ``key_packages`` of this user's devices, right away."""
        await self._consent("grant", user_id, room_id, key_packages=key_packages)

    async def revoke_consent(self, user_id: str, *, room_id: str | None = None, tell: bool = False) -> None:
        """Do not let a user add this one; they hear of it only with ``tell``."""
        await self._consent("revoke", user_id, room_id, tell=tell)

    async def take_key_packages(self, user_id: str, *, room_id: str | None = None) -> list[bytes]:
        """The key packages that came with a user's grant; they are given once."""
        answer = await self._consent("key_packages", user_id, room_id, idempotent=False)
        return decode_binaries(answer, "key_packages")

    async def _consent(
        self, action: str, user_id: str, room_id: str | None, *, idempotent: bool = True, **more: bool
    ) -> JsonObject:
        body: JsonObject = {"user_id": user_id, **more}
        if room_id is not None:
            body["room_id"] = room_id
        return await self._transport.json(
            "POST", f"{MLS}/consents/{action}", body=body, idempotent=idempotent
        )

    # --- pseudonyms ---

    async def make_pseudonym(self, name: str, client: str, *, signature_key: bytes) -> JsonObject:
        """Make a pseudonym of this account and a client of it, both random UUIDs; the provider's signed
        statement that this device, under its real name, has the raw ``signature_key``.
        """
        answer = await self._transport.json(
            "PUT",
            f"{MLS}/pseudonyms/{path_part(name)}/{path_part(client)}",
            body={"signature_key": encode_binary(signature_key)},
            idempotent=True,
        )
        return json_object(answer, "statement")

    async def forget_pseudonym(self, user_id: str) -> None:
        """Have the provider forget whose a pseudonym is that has left its room; it is gone then."""
        name = user_id.removeprefix("@").partition(":")[0]
        await self._transport.json("DELETE", f"{MLS}/pseudonyms/{path_part(name)}", idempotent=False)

    async def pseudonyms(self) -> list[JsonObject]:
        """This account's pseudonyms, oldest first: ``user_id``, ``devices``, and the ``room_id`` it is
        for, once it is for one.
        """
        answer = await self._transport.json("GET", f"{MLS}/pseudonyms", idempotent=True)
        return json_objects(answer.get("pseudonyms"))

    # --- finding users ---

    async def find_users(self, domain: str, *conditions: Mapping[str, str]) -> list[JsonObject]:
        """The users of a provider whom all conditions fit: ``user_id``, and the ``fields`` they show.

        Args:
            conditions: ``type`` (handle, nick, email, phone, partial_name, whole_profile, oidc, vcard),
                ``value``, and for the last two ``name``.
        """
        answer = await self._transport.json(
            "POST",
            f"{MLS}/identifiers/query",
            body={"domain": domain, "query": [dict(condition) for condition in conditions]},
            idempotent=True,
        )
        return json_objects(answer.get("users"))

    async def be_found_by(self, *fields: Mapping[str, str], handle: bool = False) -> None:
        """Replace what this user can be found by: ``source`` (oidc, vcard), ``name`` and ``value`` of each
        field, and the handle.
        """
        body = {"handle": handle, "fields": [dict(field) for field in fields]}
        await self._transport.json("PUT", f"{MLS}/identifiers/profile", body=body, idempotent=True)

    # --- MLS ---

    async def franking_agents(self) -> dict[int, bytes]:
        """The provider's franking agents (encoded FrankingAgentData) by cipher suite, from
        ``GET /capabilities``; none if it franks nothing.
        """
        capabilities = json_object(await self._get("/capabilities"), "capabilities")
        offered = capabilities.get(FRANKING_CAPABILITY)
        if not isinstance(offered, dict):
            return {}
        agents = json_object(offered, "agents")
        return {int(suite): decode_binary(agents, suite) for suite in agents if suite.isdecimal()}

    async def keys_upload(
        self, *, one_time: Mapping[str, bytes], fallback: Mapping[str, bytes] | None = None
    ) -> dict[str, int]:
        """``POST /keys/upload`` of KeyPackages by key ID (MSC4244); returns the counts by algorithm.

        Repeating it is harmless: the key ID names the package.
        """
        body: JsonObject = {"one_time_keys": key_objects(one_time)}
        if fallback:
            body["fallback_keys"] = key_objects(fallback)
        answer = await self._post("/keys/upload", body, idempotent=True)
        counts = json_object(answer, "one_time_key_counts")
        return {name: count for name, count in counts.items() if isinstance(count, int)}

    async def update(
        self, room_id: str, bundle: bytes, *, initial_group: tuple[bytes, bytes] | None = None
    ) -> tuple[bytes, str | None]:
        """Submit a ``HandshakeBundle``; returns the ``UpdateRoomResponse`` and the event ID on success.

        ``initial_group`` is (GroupInfo, ratchet tree) of epoch 0, with a room's first commit. The request
        is repeated
        after a lost answer: if it had been accepted, the repetition is answered ``wrongEpoch``.
        """
        body: JsonObject = {"bundle": encode_binary(bundle)}
        if initial_group is not None:
            group_info, tree = initial_group
            body["initial_group"] = {
                "group_info": encode_binary(group_info),
                "ratchet_tree": encode_binary(tree),
            }
        answer = await self._mls(room_id, "mls/update", body, idempotent=True)
        event_id = answer.get("event_id")
        return decode_binary(answer, "response"), event_id if isinstance(event_id, str) else None

    async def key_material(self, room_id: str, request: bytes) -> bytes:
        """Exchange a ``KeyMaterialRequest`` for a ``KeyMaterialResponse``; every call claims packages."""
        return await self._exchange(room_id, "mls/key_material", request, idempotent=False)

    async def group_info(self, room_id: str, request: bytes) -> bytes:
        """Exchange a ``GroupInfoRequest`` for a ``GroupInfoResponse``."""
        return await self._exchange(room_id, "mls/group_info", request, idempotent=True)

    async def hub_sender(self, room_id: str) -> tuple[bytes, bytes] | None:
        """The external sender that stands for the room's hub in its group: raw public key, and the content of
        its basic credential. None if our provider is not the hub.
        """
        try:
            answer = await self._transport.json(
                "GET", f"{MLS}/rooms/{path_part(room_id)}/mls/hub_sender", idempotent=True
            )
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            return None
        return decode_binary(answer, "signature_key"), decode_binary(answer, "identity")

    async def create_join_code(self, room_id: str, *, uses: int, lifetime_ms: int) -> str:
        """``POST rooms/{room}/join_codes``: a code that lets ``uses`` users in; only at the hub. A
        lost answer leaves a code that nobody knows.
        """
        body: JsonObject = {"uses": uses, "lifetime_ms": lifetime_ms}
        return json_string(await self._mls(room_id, "join_codes", body, idempotent=False), "code")

    async def join_codes(self, room_id: str) -> list[JsonObject]:
        """``GET rooms/{room}/join_codes``: ``id``, ``creator``, ``uses_left`` and ``expires_ts`` of each."""
        path = f"{MLS}/rooms/{path_part(room_id)}/join_codes"
        answer = await self._transport.json("GET", path, idempotent=True)
        return json_objects(answer.get("codes"))

    async def revoke_join_code(self, room_id: str, code_id: str) -> None:
        """``DELETE rooms/{room}/join_codes/{id}``; a repetition is a 404."""
        path = f"{MLS}/rooms/{path_part(room_id)}/join_codes/{path_part(code_id)}"
        await self._transport.json("DELETE", path, idempotent=False)

    async def import_events(self, room_id: str, events: Sequence[ImportEvent]) -> ImportResult:
        """Append a bridged room's past, in order, at most ``MAX_IMPORT_PAGE`` at once; repeating is
        harmless.
        """
        body = {"events": [event.to_json() for event in events]}
        answer = await self._mls(room_id, "import", body, idempotent=True)
        return ImportResult(
            event_ids=json_strings(json_object(answer, "event_ids")),
            failed=json_strings(answer.get("failed", {})),
        )

    async def send_to_device(
        self, event_type: str, messages: Mapping[str, Mapping[str, JsonObject]], *, txn_id: str
    ) -> None:
        """``PUT /sendToDevice/{type}/{txn}`` of contents by user ID and device ID (``*``: all of the
        user's); the same ``txn_id`` never sends twice.
        """
        path = f"{V3}/sendToDevice/{path_part(event_type)}/{path_part(txn_id)}"
        body: JsonObject = {"messages": {user: dict(devices) for user, devices in messages.items()}}
        await self._transport.json("PUT", path, body=body, idempotent=True)

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
        return json_string(orjson.loads(answer.body), "content_uri")

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

    # --- the shapes of requests ---

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


def _is_run(run: list[Any]) -> bool:
    return len(run) == 2 and all(type(end) is int and end >= 0 for end in run)  # noqa: PLR2004 - a pair
