"""The cursor a pull follower is given: opaque to it, and proof that it was given just that.

A cursor acknowledges: what it covers is never sent again. One that a follower could make up itself, or take
from another follower, would lose it messages. So it is authenticated (HMAC-SHA256, RFC 2104) together with
the follower's name.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

import orjson

from linearized.exceptions import InvalidInput
from linearized.protocol.base64 import decode_base64, encode_base64url
from linearized.protocol.signing import SigningKey

# A room ID has 255 bytes, which base64 makes 340; two numbers and the code leave ample room.
MAX_CURSOR_CHARACTERS: Final = 1024
_PURPOSE: Final = b"linearized pull cursors"


class UnknownCursor(InvalidInput):
    """A cursor was not given by us, or not to this follower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What an answer covered: of one room the entries up to ``seq``, and the Welcomes up to position
    ``welcomes`` (0 for none).
    """

    room_id: str
    seq: int
    welcomes: int


class CursorSeal:
    """Makes and opens cursors.

    Args:
        key: the server's signing key. Only its signatures are deterministic and known to us alone; a rotated
            key makes new cursors, and followers begin again from what they acknowledged.
    """

    def __init__(self, key: SigningKey) -> None:
        self._secret = hashlib.sha256(key.sign(_PURPOSE)).digest()

    def seal(self, provider: str, position: Position) -> str:
        """The cursor for a position, ASCII of at most ``MAX_CURSOR_CHARACTERS``."""
        payload = orjson.dumps([position.room_id, position.seq, position.welcomes])
        return f"{encode_base64url(payload)}.{encode_base64url(self._code(provider, payload))}"

    def open(self, provider: str, cursor: str) -> Position:
        """The position of a cursor that this follower was given.

        Raises:
            UnknownCursor: it was not.
        """
        if len(cursor) > MAX_CURSOR_CHARACTERS:
            raise UnknownCursor("the cursor is too long")
        payload, _, code = cursor.partition(".")
        try:
            opened, given = decode_base64(payload), decode_base64(code)
        except InvalidInput as error:
            raise UnknownCursor("the cursor is not one of ours") from error
        if not hmac.compare_digest(given, self._code(provider, opened)):
            raise UnknownCursor("the cursor was not given to this follower")
        room_id, seq, welcomes = orjson.loads(opened)
        return Position(room_id=room_id, seq=seq, welcomes=welcomes)

    def _code(self, provider: str, payload: bytes) -> bytes:
        return hmac.digest(self._secret, provider.encode() + b"\0" + payload, "sha256")
