"""Binary members of an event's content, in base64."""

from __future__ import annotations

from linearized.exceptions import InvalidInput
from linearized.protocol.base64 import decode_base64
from linearized.protocol.canonical import JsonObject
from linearized.room.submissions import Reason, Rejected


def binary(content: JsonObject, key: str) -> bytes:
    """A base64 member of an event's content.

    Raises:
        Rejected: ``MALFORMED`` if it is missing or not base64.
    """
    value = content.get(key)
    if not isinstance(value, str):
        raise Rejected(Reason.MALFORMED, f"content.{key} is missing")
    try:
        return decode_base64(value)
    except (InvalidInput, ValueError) as error:
        raise Rejected(Reason.MALFORMED, f"content.{key} is not base64") from error
