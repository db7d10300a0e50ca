"""What the hub says of where an event came from that no Linearized Matrix server signed (``provenance``)."""

from __future__ import annotations

import hashlib
from functools import cached_property

from linearized.protocol.base64 import encode_base64url
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_domain


class Provenance:
    """That of the events which an MLS message leads to.

    Args:
        message: an MLSMessage.
        hub: the room's, whose own users' events have no provenance.
    """

    def __init__(self, message: bytes, *, hub: str) -> None:
        self._message = message
        self._hub = hub

    def of(self, user_id: str) -> JsonObject | None:
        """The object for an event that this user sends, None for a user of the hub."""
        domain = user_domain(user_id)
        if domain == self._hub:
            return None
        return {"protocol": "mimi", "provider": domain, "mls": self._digest}

    @cached_property
    def _digest(self) -> str:
        # A commit may be large, and lead to many events.
        return encode_base64url(hashlib.sha256(self._message).digest())
