"""A homeserver in memory, as an application service meets it; shapes and oddities as Synapse was seen to
have them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx

from tests.bridges.fake_keys import KeyServer

DOMAIN = "matrix.example"
START = 1_795_300_000_000
PAGE = 100
OK = 200
# How the access tokens of its users begin; the application service's do not.
USER_TOKEN = "user-"
# The parts of a path before the one that says what it is about: _matrix, client, v3.
FIXED = 3

JsonObject = dict[str, Any]
# What moderators ask for, and the membership it leads to.
_ACTS = {"invite": "invite", "kick": "leave", "ban": "ban", "unban": "leave"}

Fault = Callable[[str, httpx.Request], None]


@dataclass
class MatrixRoom:
    room_id: str
    timeline: list[JsonObject] = field(default_factory=list)
    members: dict[str, str] = field(default_factory=dict)
    public: bool = True
    aliases: set[str] = field(default_factory=set)
    # Who may not set state of which type, whatever the power levels say.
    forbidden: set[tuple[str, str]] = field(default_factory=set)


class FakeHomeserver:
    """Rooms, users, media, and the events it has still to push to the application service."""

    def __init__(self, domain: str = DOMAIN) -> None:
        self.domain = domain
        self.rooms: dict[str, MatrixRoom] = {}
        self.users: set[str] = {f"@{name}:{self.domain}" for name in ("alice", "bob", "carol")}
        self.devices: set[tuple[str, str]] = set()
        self.names: dict[str, str] = {}
        self.avatars: dict[str, str] = {}
        self.media: dict[str, tuple[bytes, str]] = {}
        self.transactions: dict[str, str] = {}
        self.pushes: list[JsonObject] = []
        self.requests: list[str] = []
        self.receipts: list[tuple[str, str, str]] = []
        self.typing: list[tuple[str, str, bool]] = []
        self.fault: Fault | None = None
        # What pinging the application service answers, and whose token it has.
        self.ping: tuple[int, str] = (200, "")
        self.token_of: str | None = f"@_lin_bot:{self.domain}"
        # Users by the access tokens they gave away; each is that of a device of its own.
        self.tokens: dict[str, str] = {}
        # Users who send too much.
        self.limited: set[str] = set()
        self.count = 0
        self.keys = KeyServer()
        # Whether application services can act as a device.
        self.masquerading = True
        # Whether their devices are made by PUT only (MSC4190).
        self.devices_by_put = False

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._handle))

    # --- what people do ---

    def create(self, room_id: str, creator: str) -> MatrixRoom:
        room = self.rooms[room_id] = MatrixRoom(room_id)
        self.emit(room, creator, "m.room.create", {"room_version": "10"}, state_key="", push=False)
        self.member(room, creator, "join", push=False)
        levels = {"users": {creator: 100}, "events_default": 0, "state_default": 50}
        self.emit(room, creator, "m.room.power_levels", levels, state_key="", push=False)
        self.emit(room, creator, "m.room.join_rules", {"join_rule": "public"}, state_key="", push=False)
        return room

    def member(
        self,
        room: MatrixRoom,
        user: str,
        membership: str,
        *,
        sender: str | None = None,
        push: bool = True,
        **more: Any,
    ) -> JsonObject:
        content = {"membership": membership, "displayname": user[1:].partition(":")[0], **more}
        return self.emit(room, sender or user, "m.room.member", content, state_key=user, push=push)

    def say(
        self,
        room: MatrixRoom,
        sender: str,
        body: str,
        *,
        push: bool = True,
        extra: JsonObject | None = None,
    ) -> str:
        content = {"msgtype": "m.text", "body": body, **(extra or {})}
        return str(self.emit(room, sender, "m.room.message", content, push=push)["event_id"])

    def emit(
        self,
        room: MatrixRoom,
        sender: str,
        kind: str,
        content: JsonObject,
        *,
        state_key: str | None = None,
        ts: int | None = None,
        push: bool = True,
        **extra: Any,
    ) -> JsonObject:
        self.count += 1
        event: JsonObject = {
            "type": kind,
            "sender": sender,
            "user_id": sender,
            "room_id": room.room_id,
            "event_id": f"$m{self.count}",
            "origin_server_ts": ts if ts is not None else START + self.count * 1000,
            "content": content,
            "unsigned": {"age": 5},
            "age": 5,
            **extra,
        }
        if state_key is not None:
            event["state_key"] = state_key
            if kind == "m.room.member":
                room.members[state_key] = content["membership"]
        room.timeline.append(event)
        if push:
            self.pushes.append(event)
        return event

    def state(self, room: MatrixRoom) -> dict[tuple[str, str], JsonObject]:
        return {(e["type"], e["state_key"]): e for e in room.timeline if "state_key" in e}

    def upload(self, data: bytes, content_type: str) -> str:
        self.count += 1
        self.media[f"file{self.count}"] = (data, content_type)
        return f"mxc://{self.domain}/file{self.count}"

    # --- the client API ---

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().partition("?")[0]
        self.requests.append(f"{request.method} {path}")
        if self.fault is not None:
            self.fault("before", request)
        parts = [unquote(part) for part in path.split("/")[1:]]
        if request.method == "PUT" and parts[FIXED:-1] == ["devices"]:
            self.devices.add((request.url.params["user_id"], parts[-1]))
            return _ok()
        about_keys = len(parts) > FIXED and parts[FIXED] in ("keys", "sendToDevice", "sync")
        if token_of(request).startswith(USER_TOKEN) and token_of(request) not in self.tokens:
            answer = _error(401, "M_UNKNOWN_TOKEN")
        else:
            answer = self._keys(request, parts[3:]) if about_keys else self._answer(request, parts)
        if self.fault is not None:
            self.fault("after", request)
        return answer

    def _answer(self, request: httpx.Request, parts: list[str]) -> httpx.Response:
        user = self._acting(request)
        if parts[:3] == ["_matrix", "media", "v3"]:
            return _ok(content_uri=self.upload(request.content, request.headers["content-type"]))
        if parts[2:] == ["versions"]:
            return _ok(versions=["v1.12", "v1.13"])
        if parts[-2:] == ["account", "whoami"]:
            owner = user if token_of(request).startswith(USER_TOKEN) else self.token_of
            return _ok(user_id=owner) if owner else _error(401, "M_UNKNOWN_TOKEN")
        body = json.loads(request.content) if request.content else {}
        match (request.method, *parts[3:]):
            case ("POST", "appservice", _, "ping"):
                answer = _ok(duration_ms=1) if self.ping[0] == OK else _error(*self.ping)
            case ("POST", "register" | "login" as act):
                answer = self._register(body) if act == "register" else self._login(body)
            case ("PUT", "profile", of, "displayname" | "avatar_url" as what):
                assert of == user
                (self.names if what == "displayname" else self.avatars)[of] = body[what]
                answer = _ok()
            case ("GET", "media", "download", _, media_id):
                file = self.media.get(media_id)
                answer = httpx.Response(200, content=file[0]) if file else _error(404, "M_NOT_FOUND")
            case (method, "directory", "room", alias):
                answer = self._directory(method, alias, body)
            case ("POST", "createRoom"):
                answer = self._create(user, body)
            case ("POST", "join" | "knock" as act, room_id):
                enter = self._join if act == "join" else self._knock
                answer = enter(self.rooms[room_id], user, body)
            case (_, "rooms", room_id, *rest):
                answer = self._room(request, self.rooms.get(room_id), user, rest)
            case _:
                raise AssertionError(parts)
        return answer

    def _acting(self, request: httpx.Request) -> str:
        if token_of(request).startswith(USER_TOKEN):
            return self.tokens[token_of(request)]
        return str(request.url.params.get("user_id", f"@_lin_bot:{self.domain}"))

    def _keys(self, request: httpx.Request, parts: list[str]) -> httpx.Response:
        user, device = (request.url.params[name] for name in ("user_id", "device_id"))
        if not self.masquerading or (user, device) not in self.devices:
            return _error(400, "M_UNKNOWN_DEVICE")
        body = json.loads(request.content) if request.content else dict(request.url.params)
        return _ok(**self.keys.answer(user, device, request.method, parts, body))

    def _login(self, body: JsonObject) -> httpx.Response:
        if self.devices_by_put:
            return _error(400, "M_APPSERVICE_LOGIN_UNSUPPORTED")
        user = body["identifier"]["user"]
        self.devices.add((user, body["device_id"]))
        return _ok(user_id=user)

    def _register(self, body: JsonObject) -> httpx.Response:
        user = f"@{body['username']}:{self.domain}"
        if self.devices_by_put and not body.get("inhibit_login"):
            return _error(400, "M_APPSERVICE_LOGIN_UNSUPPORTED")
        if user in self.users:
            return _error(400, "M_USER_IN_USE")
        self.users.add(user)
        if "device_id" not in body:
            return _ok(user_id=user)
        self.devices.add((user, body["device_id"]))
        return _ok(user_id=user)

    def _directory(self, method: str, alias: str, body: JsonObject) -> httpx.Response:
        found = [room for room in self.rooms.values() if alias in room.aliases]
        if method == "GET":
            # As Synapse: it would ask the application service, which waits for this answer.
            assert found or not alias.startswith("#_lin_")
            return _ok(room_id=found[0].room_id) if found else _error(404, "M_NOT_FOUND")
        if found:
            return _error(409, "M_UNKNOWN")
        self.rooms[body["room_id"]].aliases.add(alias)
        return _ok()

    def _create(self, user: str, body: JsonObject) -> httpx.Response:
        if any(f"#{body['room_alias_name']}:{self.domain}" in room.aliases for room in self.rooms.values()):
            return _error(400, "M_ROOM_IN_USE")
        self.count += 1
        room = self.create(f"!made{self.count}:{self.domain}", user)
        room.aliases.add(f"#{body['room_alias_name']}:{self.domain}")
        self.emit(room, user, "m.room.join_rules", {"join_rule": "invite"}, state_key="", push=False)
        return _ok(room_id=room.room_id)

    def _join(self, room: MatrixRoom, user: str, body: JsonObject) -> httpx.Response:
        del body
        if user not in self.users:
            return _error(403, "M_FORBIDDEN")
        if room.members.get(user) != "join":
            if not room.public and room.members.get(user) != "invite":
                return _error(403, "M_FORBIDDEN")
            self.member(room, user, "join")
        return _ok(room_id=room.room_id)

    def _knock(self, room: MatrixRoom, user: str, body: JsonObject) -> httpx.Response:
        if self.state(room)["m.room.join_rules", ""]["content"]["join_rule"] != "knock":
            return _error(403, "M_FORBIDDEN")
        self.member(room, user, "knock", **body)
        return _ok(room_id=room.room_id)

    def _receipt(self, room: MatrixRoom, user: str, what: list[str]) -> httpx.Response:
        kind, event_id = what
        if kind != "m.read" or (user, "receipt") in room.forbidden:
            return _error(403, "M_FORBIDDEN")
        self.receipts.append((room.room_id, user, event_id))
        return _ok()

    def _room(
        self, request: httpx.Request, room: MatrixRoom | None, user: str, rest: list[str]
    ) -> httpx.Response:
        if room is None:
            return _error(404, "M_NOT_FOUND")
        may_leave = ("join", "invite", "knock") if rest == ["leave"] else ("join",)
        if room.members.get(user) not in may_leave:
            return _error(403, "M_FORBIDDEN")
        body = json.loads(request.content) if request.content else {}
        ts = request.url.params.get("ts")
        answer = _ok()
        match (request.method, *rest):
            case ("PUT", "send" | "redact" as act, what, _):
                answer = self._send(request, room, user, act, what)
            case ("POST", "receipt", *what):
                answer = self._receipt(room, user, what)
            case ("PUT", "typing", typist) if typist == user:
                self.typing.append((room.room_id, user, body["typing"]))
            case ("PUT", "state", kind, _) if (user, kind) in room.forbidden:
                answer = _error(403, "M_FORBIDDEN")
            case ("PUT", "state", kind, key):
                event = self.emit(room, user, kind, body, state_key=key, ts=int(ts) if ts else None)
                answer = _ok(event_id=event["event_id"])
            case ("POST", act) if (user, act) in room.forbidden:
                answer = _error(403, "M_FORBIDDEN")
            case ("POST", "leave"):
                self.member(room, user, "leave", **body)
            case ("POST", act):
                self.member(room, body.pop("user_id"), _ACTS[act], sender=user, **body)
            case ("GET", *what):
                answer = self._read(room, what, request.url.params)
            case _:
                raise AssertionError(rest)
        return answer

    def _read(self, room: MatrixRoom, what: list[str], params: httpx.QueryParams) -> httpx.Response:
        match what:
            case ("state",):
                answer = httpx.Response(200, json=list(self.state(room).values()))
            case ("state", kind, key):
                assert params["format"] == "event"
                event = self.state(room).get((kind, key), {})
                answer = _ok(**event) if event else _error(404, "M_NOT_FOUND")
            case ("joined_members",):
                joined = [name for name, membership in room.members.items() if membership == "join"]
                answer = _ok(joined={name: {"display_name": name} for name in joined})
            case ("members",):
                events = [e for e in self.state(room).values() if e["type"] == "m.room.member"]
                wanted = [e for e in events if e["content"]["membership"] == params["membership"]]
                answer = _ok(chunk=wanted)
            case ("event", event_id):
                found = [event for event in room.timeline if event["event_id"] == event_id]
                answer = httpx.Response(200, json=found[0]) if found else _error(404, "M_NOT_FOUND")
            case ("messages",):
                answer = self._messages(room, params)
            case _:
                raise AssertionError(what)
        return answer

    def _send(
        self,
        request: httpx.Request,
        room: MatrixRoom,
        user: str,
        act: str,
        what: str,
    ) -> httpx.Response:
        kind, more = (what, {}) if act == "send" else ("m.room.redaction", {"redacts": what})
        bearer = token_of(request)
        # As Synapse: keyed by path and application service, not by user; or by the device of a user's token.
        key = request.url.raw_path.decode().partition("?")[0]
        ts = request.url.params.get("ts")
        if bearer.startswith(USER_TOKEN):
            key, ts = f"{bearer} {key}", None
            if key not in self.transactions and user in self.limited:
                return _error(429, "M_LIMIT_EXCEEDED")
        else:
            assert (user, request.url.params.get("device_id")) in self.devices
        if key not in self.transactions:
            if (user, kind) in room.forbidden:
                return _error(403, "M_FORBIDDEN")
            body = {**json.loads(request.content), **more}
            extra = {"redacts": body["redacts"]} if kind == "m.room.redaction" else {}
            event = self.emit(room, user, kind, body, ts=int(ts) if ts else None, **extra)
            self.transactions[key] = event["event_id"]
        return _ok(event_id=self.transactions[key])

    def _messages(self, room: MatrixRoom, params: httpx.QueryParams) -> httpx.Response:
        before = int(params["from"]) if "from" in params else len(room.timeline)
        start = max(0, before - min(PAGE, int(params["limit"])))
        chunk = room.timeline[start:before][::-1]
        answer: JsonObject = {"chunk": chunk, "start": str(before)}
        if start > 0:
            answer["end"] = str(start)
        return httpx.Response(200, json=answer)


def token_of(request: httpx.Request) -> str:
    return str(request.headers.get("authorization", "")).removeprefix("Bearer ")


def _ok(**body: Any) -> httpx.Response:
    return httpx.Response(200, json=body)


def _error(status: int, errcode: str) -> httpx.Response:
    return httpx.Response(status, json={"errcode": errcode, "error": errcode})
