"""Makes the room that existed before us: five users of the homeserver talk in it over several days.

The users have accounts and act through the client API. A second application service, "history", holds the token they
act with, because only an application service may give an event a timestamp other than now.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from linearized.demo.conversation import DAYS, DAY_MS, PEOPLE, Action, Kind, conversation, message_content
from linearized.demo.homeserver import SERVER_NAME, HomeserverFiles, MatrixUser, register

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
    """Register the five, make the room and play the conversation; ``progress(done, total)`` is called as it goes."""
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
        await _membership(past[name], room_id, "join", ts=start + minute * 60_000, displayname=name.title())

    picture = harbour()
    picture_uri = await users["alice"].upload(picture, "image/png", "harbour.png")
    actions = conversation(start + DAY_MS // 24 * 9)
    event_ids: list[str] = []
    for action in actions:
        event_ids.append(
            await _perform(past[action.sender], room_id, action, event_ids, actions, picture, picture_uri)
        )
        progress(len(event_ids), len(actions))
    kinds: dict[str, int] = {}
    for action in actions:
        kinds[action.kind] = kinds.get(action.kind, 0) + 1
    return ExistingRoom(room_id=room_id, users=users, kinds=kinds, image=picture, image_uri=picture_uri)


async def _membership(user: MatrixUser, room_id: str, membership: str, *, ts: int, displayname: str) -> str:
    content: dict[str, Any] = {"membership": membership}
    if membership == "join":
        content["displayname"] = displayname
    return await user.set_state(room_id, "m.room.member", user.user_id, content, ts=ts)


async def _perform(
    user: MatrixUser,
    room_id: str,
    action: Action,
    event_ids: list[str],
    actions: list[Action],
    picture: bytes,
    picture_uri: str,
) -> str:
    ts = action.at
    match action.kind:
        case Kind.JOIN | Kind.RENAME:
            name = action.text or action.sender.title()
            return await _membership(user, room_id, "join", ts=ts, displayname=name)
        case Kind.LEAVE:
            return await _membership(user, room_id, "leave", ts=ts, displayname="")
        case Kind.TOPIC:
            return await user.set_state(room_id, "m.room.topic", "", {"topic": action.text}, ts=ts)
        case Kind.NAME:
            return await user.set_state(room_id, "m.room.name", "", {"name": action.text}, ts=ts)
        case Kind.POWER:
            levels = await user.call("GET", f"/rooms/{room_id}/state/m.room.power_levels/")
            levels["users"] = {**levels["users"], f"@{action.text}:{SERVER_NAME}": 50}
            return await user.set_state(room_id, "m.room.power_levels", "", levels, ts=ts)
        case Kind.IMAGE:
            info = {"mimetype": "image/png", "size": len(picture), "w": 64, "h": 48}
            content = {"msgtype": "m.image", "body": action.text, "url": picture_uri, "info": info}
            return await user.send(room_id, "m.room.message", content, ts=ts)
        case _:
            event_type = _EVENT_TYPES.get(action.kind, "m.room.message")
            return await user.send(room_id, event_type, message_content(action, event_ids), ts=ts)
