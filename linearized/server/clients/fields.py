"""Reads members of request bodies and query parameters, each with the error the Matrix specification names
for it.

"M_BAD_JSON: the request contained valid JSON, but it was malformed in some way, e.g. missing required keys,
invalid values for keys" (Client-Server API, Standard error response).
"""

from __future__ import annotations

from typing import Any

from linearized.exceptions import InvalidInput
from linearized.protocol.base64 import decode_base64
from linearized.protocol.canonical import JsonObject
from linearized.server.http import HttpError, Request

# Longer than any name, token or identifier a client has to give; identifiers end at 255 bytes.
MAX_TEXT = 4096
_MAX_INTEGER = 2**53 - 1  # the largest integer JSON carries without loss


def bad_json(error: str) -> HttpError:
    """A 400 for a body of the wrong shape."""
    return HttpError(400, "M_BAD_JSON", error)


def invalid(error: str) -> HttpError:
    """A 400 for a value that has the right type and is still of no use."""
    return HttpError(400, "M_INVALID_PARAM", error)


def optional_text(body: JsonObject, key: str, *, limit: int = MAX_TEXT) -> str | None:
    """A string, or None if it is absent or null."""
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise bad_json(f"{key} must be a string")
    if len(value) > limit:
        raise invalid(f"{key} is longer than {limit} characters")
    return value


def text(body: JsonObject, key: str, *, limit: int = MAX_TEXT) -> str:
    """A string that must be there."""
    value = optional_text(body, key, limit=limit)
    if value is None:
        raise bad_json(f"{key} is missing")
    return value


def optional_object(body: JsonObject, key: str) -> JsonObject:
    """An object; an absent or null one is empty."""
    value = body.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_json(f"{key} must be an object")
    return value


def required_object(body: JsonObject, key: str) -> JsonObject:
    """An object that must be there."""
    if body.get(key) is None:
        raise bad_json(f"{key} is missing")
    return optional_object(body, key)


def objects(body: JsonObject, key: str, *, limit: int) -> list[JsonObject]:
    """A list of at most ``limit`` objects; an absent one is empty."""
    value = body.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise bad_json(f"{key} must be a list of objects")
    if len(value) > limit:
        raise invalid(f"{key} holds more than {limit} items")
    return value


def texts(body: JsonObject, key: str, *, limit: int) -> list[str]:
    """A list of at most ``limit`` strings; an absent one is empty."""
    value = body.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise bad_json(f"{key} must be a list of strings")
    if len(value) > limit:
        raise invalid(f"{key} holds more than {limit} items")
    return value


def binary(body: JsonObject, key: str) -> bytes:
    """Bytes that a body carries as unpadded base64."""
    value = body.get(key)
    if not isinstance(value, str):
        raise bad_json(f"{key} must be a string of unpadded base64")
    try:
        return decode_base64(value)
    except (InvalidInput, ValueError) as error:
        raise invalid(f"{key} is not base64") from error


def boolean(body: JsonObject, key: str, *, default: bool = False) -> bool:
    """A boolean with a default."""
    value: Any = body.get(key, default)
    if not isinstance(value, bool):
        raise bad_json(f"{key} must be true or false")
    return value


def integer(body: JsonObject, key: str, *, minimum: int = 0) -> int:
    """A whole number that must be there."""
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise bad_json(f"{key} must be a whole number of at least {minimum}")
    return value


def query_integer(request: Request, name: str, *, default: int, maximum: int, minimum: int = 0) -> int:
    """A whole number from the query; more than ``maximum`` counts as ``maximum``, as servers may clamp
    limits.
    """
    value = request.query_one(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdecimal()) or len(value) > len(str(_MAX_INTEGER)):
        raise invalid(f"{name} must be a whole number")
    number = int(value)
    if number < minimum:
        raise invalid(f"{name} must be at least {minimum}")
    return min(number, maximum)


def query_timestamp(request: Request, name: str) -> int | None:
    """Milliseconds since the Unix epoch from the query, or None without them."""
    if request.query_one(name) is None:
        return None
    return query_integer(request, name, default=0, maximum=_MAX_INTEGER)
