"""What tokens of fan-out requests are made with, and how many there are (see ``mimi.fanout_requests``)."""

from __future__ import annotations

import hashlib
from typing import Final

from linearized.protocol.signing import SigningKey

# Clients of one provider in one room: each costs some hundred bytes and a MAC with every message. A room
# with more of them is notified.
MAX_RECIPIENTS: Final = 1000
_PURPOSE: Final = b"linearized fan-out tokens"


def token_secret(key: SigningKey) -> bytes:
    """What our tokens are made with. Only the server's key makes it, as its signatures are deterministic; a
    rotated key makes other tokens, and hubs notify until they have them.
    """
    return hashlib.sha256(key.sign(_PURPOSE)).digest()
