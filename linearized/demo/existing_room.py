"""Makes the room that existed before us: five users of the homeserver talk in it over several days.

The users have accounts and act through the client API. A second application service, "history", holds the
token they act with, because only an application service may give an event a timestamp other than now.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from linearized.demo.conversation import DAY_MS, DAYS, PEOPLE, Action, Kind, conversation, message_content
from linearized.demo.homeserver import SERVER_NAME, HomeserverFiles, JsonObject, MatrixUser, register

ROOM_NAME = "Clubhouse"
_EVENT_TYPES = {Kind.REACTION: "m.reaction", Kind.REDACTION: "m.room.redaction"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingRoom:
    """What was made: the room, the plaintexts said in it, and how many events of each kind."""

    room_id: str
    users: Mapping[str, MatrixUser]  # by localpart; with the users' own access tokens
    kinds: Mapping[str, int]
    image: bytes
    image_uri: str


def write_history_registration(path: Path, *, token: str, homeserver_token: str) -> None:
    """Write the registration of the application service that may act for the five at times gone by."""
    names = "|".join(PEOPLE)
    registration = {
        "id": "history",
        "url": None,
        "as_token": token,
        "hs_token": homeserver_token,
        "sender_localpart": "_history",
        "rate_limited": False,
        "namespaces": {"users": [{"regex": f"@({names}):{SERVER_NAME}", "exclusive": False}]},
    }
    path.write_text(json.dumps(registration, indent=1), encoding="utf-8")


def png(width: int, height: int, shade: Callable[[int, int], tuple[int, int, int]]) -> bytes:
    """A PNG file of 8-bit RGB pixels, from the pixel function ``shade(x, y)``."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"".join(bytes(shade(x, y)) for x in range(width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def harbour() -> bytes:
    """The picture everybody posts: a sky, a sea and a sun, 64 by 48."""

    def shade(x: int, y: int) -> tuple[int, int, int]:
        if (x - 46) ** 2 + (y - 12) ** 2 < 36:  # noqa: PLR2004 - the sun
            return (250, 200, 60)
        return (110 + y * 2, 160 + y, 220) if y < 28 else (20, 60 + (x * 7 + y * 11) % 24, 110)  # noqa: PLR2004

    return png(64, 48, shade)


async def make_room(
    http: httpx.AsyncClient,
    files: HomeserverFiles,
    *,
    history_token: str,
    now_ms: int,
    progress: Callable[[int, int], None],
) -> ExistingRoom:
    """Register the five, make the room, play the conversation; calls ``progress(done, total)`` as it goes."""
    users = {
        name: await register(http, files.shared_secret, name, f"{name} has a password") for name in PEOPLE
    }
    past = {name: MatrixUser(http, user.user_id, history_token, as_user=True) for name, user in users.items()}
    creation = {
        "preset": "public_chat",
        "name": ROOM_NAME,
        "topic": "What is broken",
        "visibility": "private",
    }
    room_id = str((await users["alice"].call("POST", "/createRoom", body=creation))["room_id"])

    start = now_ms - (now_ms % DAY_MS) - DAYS * DAY_MS
    for minute, name in enumerate(PEOPLE[1:], start=1):
        ts = start + minute * 60_000
        await past[name].set_state(
            room_id, "m.room.member", users[name].user_id, _joined(name.title()), ts=ts
        )

    picture = harbour()
    picture_uri = await users["alice"].upload(picture, "image/png", "harbour.png")
    player = _Player(room_id, past, picture, picture_uri)
    actions = conversation(start + DAY_MS // 24 * 9)
    for action in actions:
        await player.play(action)
        progress(len(player.event_ids), len(actions))
    kinds = Counter(action.kind.value for action in actions)
    return ExistingRoom(room_id=room_id, users=users, kinds=kinds, image=picture, image_uri=picture_uri)


class _Player:
    """Plays actions into the room, each as the user who does it and at its time."""

    def __init__(
        self, room_id: str, users: Mapping[str, MatrixUser], picture: bytes, picture_uri: str
    ) -> None:
        self._room_id = room_id
        self._users = users
        self._picture = {"mimetype": "image/png", "size": len(picture), "w": 64, "h": 48}
        self._picture_uri = picture_uri
        self.event_ids: list[str] = []

    async def play(self, action: Action) -> None:
        """Do the next action."""
        user = self._users[action.sender]
        state = await self._state_of(user, action)
        if state is not None:
            event_type, state_key, content = state
            event_id = await user.set_state(self._room_id, event_type, state_key, content, ts=action.at)
        else:
            event_type = _EVENT_TYPES.get(action.kind, "m.room.message")
            event_id = await user.send(self._room_id, event_type, self._message(action), ts=action.at)
        self.event_ids.append(event_id)

    async def _state_of(self, user: MatrixUser, action: Action) -> tuple[str, str, JsonObject] | None:
        """Type, state key and content of an action on the room's state; None if it is none."""
        match action.kind:
            case Kind.JOIN | Kind.RENAME:
                return "m.room.member", user.user_id, _joined(action.text or action.sender.title())
            case Kind.LEAVE:
                return "m.room.member", user.user_id, {"membership": "leave"}
            case Kind.TOPIC | Kind.NAME:
                return f"m.room.{action.kind}", "", {action.kind.value: action.text}
            case Kind.POWER:
                levels = await user.call("GET", f"/rooms/{self._room_id}/state/m.room.power_levels/")
                users = {**levels["users"], f"@{action.text}:{SERVER_NAME}": 50}
                return "m.room.power_levels", "", {**levels, "users": users}
            case _:
                return None

    def _message(self, action: Action) -> JsonObject:
        if action.kind is not Kind.IMAGE:
            return message_content(action, self.event_ids)
        return {
            "msgtype": "m.image",
            "body": action.text,
            "url": self._picture_uri,
            "info": self._picture,
        }


def _joined(displayname: str) -> JsonObject:
    return {"membership": "join", "displayname": displayname}
