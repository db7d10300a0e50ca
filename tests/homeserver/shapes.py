"""Contents as the two sides write them, in short: what the tables of what is said are made of."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

from linearized.demo.existing_room import harbour
from linearized.mimi.content import MARKDOWN, PLAIN, Disposition, ExternalPart, SinglePart
from tests.homeserver.people import JsonObject
from tests.homeserver.scene import File, Room

HTML = "text/html;charset=utf-8"
MENTIONS, MSGTYPE, VOICE = "dev.linearized.mentions", "dev.linearized.msgtype", "dev.linearized.voice"
WAVE = "dev.linearized.waveform"
INFO, WHERE = "dev.linearized.info", "dev.linearized.geo_uri"
HTML_FORMAT = "org.matrix.custom.html"
TO = "https://matrix.to/#/"

FILES = {
    "harbour.png": File(data=harbour(), type="image/png"),
    "report.pdf": File(data=b"%PDF-1.7 the report", type="application/pdf"),
    "voice.ogg": File(data=b"OggS a voice", type="audio/ogg"),
    "film.mp4": File(data=b"\0\0\0\x18ftyp a film", type="video/mp4"),
    "wave.webp": File(data=b"RIFF a wave WEBP", type="image/webp"),
    "sail.png": File(data=b"\x89PNG a sail", type="image/png"),
    "notes.txt": File(data=b"some notes", type="text/plain"),
    "memo.ogg": File(data=b"OggS a memo", type="audio/ogg"),
    "star.webp": File(data=b"RIFF a star WEBP", type="image/webp"),
    "held.bin": File(data=b"\x00\x01\xff", type="application/x-game"),
}


# --- Matrix ---


def message(body: str, **more: Any) -> JsonObject:
    return {"msgtype": "m.text", "body": body, **more}


def to(name: str) -> JsonObject:
    return {"m.in_reply_to": {"event_id": f"{{{name}}}"}}


def plain(body: str) -> list[str]:
    return [PLAIN, body]


def rich(markdown: str, html: str) -> JsonObject:
    return {"CHOOSE_ONE": [[MARKDOWN, markdown], [HTML, html]]}


def upload(name: str, msgtype: str, body: str = "", **info: Any) -> JsonObject:
    file = FILES[name]
    content: JsonObject = {
        "msgtype": msgtype,
        "body": body or name,
        "url": f"file:{name}",
        "info": {"mimetype": file.type, "size": len(file.data), **info},
    }
    return content | ({"filename": name} if body else {})


def file(name: str, disposition: str, description: str = "") -> JsonObject:
    known = FILES[name]
    return {
        "file": name,
        "type": known.type,
        "filename": name,
        "description": description,
        "disposition": disposition,
        "size": len(known.data),
    }


def replacement(name: str, new: JsonObject) -> JsonObject:
    relation = {"rel_type": "m.replace", "event_id": f"{{{name}}}"}
    return {**new, "body": f"* {new['body']}", "m.new_content": new, "m.relates_to": relation}


# --- b.example ---


def salt(room: Room, name: str) -> bytes:
    return sha256(f"{room.room_id} {name}".encode()).digest()[:16]


def sealed(room: Room, name: str, disposition: Disposition, description: str = "") -> ExternalPart:
    """A file that was uploaded (``scene.share``), as the part that refers to it."""
    known, up = FILES[name], room.uploads[name]
    return replace(
        up,
        disposition=disposition,
        content_type=known.type,
        size=len(known.data),
        description=description,
        filename=name,
    )


def shared(
    name: str,
    msgtype: str,
    body: str = "",
    *,
    info: JsonObject | None = None,
    voice: JsonObject | None = None,
) -> JsonObject:
    known = FILES[name]
    info = {"mimetype": known.type, "size": len(known.data), **(info or {})}
    return {
        "msgtype": msgtype,
        "body": body or name,
        "filename": name,
        "url": f"file:{name}",
        "info": info,
        **({"org.matrix.msc3245.voice": {}, "org.matrix.msc1767.audio": voice} if voice else {}),
    }


def single(content_type: str, content: str) -> SinglePart:
    return SinglePart(content_type=content_type, content=content.encode())
