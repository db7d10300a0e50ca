"""What the client API answers, as values; and the checks that it is what it should be.

Every check raises ``MalformedAnswer``.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from linearized.client.errors import MalformedAnswer
from linearized.client.transport import JsonObject


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
class SegmentIndex:
    """The segments there are for us, as runs of numbers (first, last); ``head_seq`` is the log's length."""

    head_seq: int
    runs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A hub's checkpoint as it came; ``key_id`` names the key that is said to have signed it."""

    note: str
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inclusion:
    """A proof that an event is entry ``seq`` of the hub's log of ``size`` entries."""

    seq: int
    size: int
    path: list[bytes]


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


def path_part(value: str) -> str:
    """A value as one segment of a path."""
    return quote(value, safe="")


def encode_binary(data: bytes) -> str:
    """Unpadded standard base64."""
    return b64encode(data).decode().rstrip("=")


def decode_binary(answer: JsonObject, name: str) -> bytes:
    """The bytes of a base64 member of an answer."""
    return _decode(json_string(answer, name), name)


def decode_binaries(answer: JsonObject, name: str) -> list[bytes]:
    """The bytes of each item of a member of an answer that is a list of base64."""
    return [_decode(text, name) for text in json_list(answer, name) if isinstance(text, str)]


def _decode(text: str, name: str) -> bytes:
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except Base64Error as error:
        raise MalformedAnswer(f"{name!r} in the answer is not base64") from error


def key_objects(packages: Mapping[str, bytes]) -> JsonObject:
    """KeyPackages by key ID as ``keys/upload`` takes them."""
    return {f"mls:{key_id}": {"key": encode_binary(package)} for key_id, package in packages.items()}


def json_string(answer: Any, name: str) -> str:
    """A text member of an answer."""
    value = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(value, str):
        raise MalformedAnswer(f"the answer has no {name!r}")
    return value


def json_integer(answer: JsonObject, name: str) -> int:
    """An integer member of an answer."""
    value = answer.get(name)
    if not isinstance(value, int):
        raise MalformedAnswer(f"the answer has no {name!r}")
    return value


def json_object(answer: JsonObject, name: str) -> JsonObject:
    """An object member of an answer."""
    value = answer.get(name)
    if not isinstance(value, dict):
        raise MalformedAnswer(f"the answer has no {name!r}")
    return value


def json_list(answer: JsonObject, name: str) -> list[Any]:
    """A list member of an answer."""
    value = answer.get(name)
    if not isinstance(value, list):
        raise MalformedAnswer(f"the answer has no {name!r}")
    return value


def json_objects(value: Any) -> list[JsonObject]:
    """A list of objects."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise MalformedAnswer("the answer holds no list of objects")
    return value


def json_strings(value: Any) -> dict[str, str]:
    """An object of texts."""
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise MalformedAnswer("the answer holds no object of strings")
    return value
