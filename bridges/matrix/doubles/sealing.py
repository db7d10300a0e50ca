"""Access tokens at rest: sealed with the bridge's key, wherever the database holds one.

A token reaches the bridge in a message, which waits in the queue like any other. So a message that may hold
one is sealed before it is first written.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any, Final

from bridges.matrix.commands import PREFIX
from linearized.client import MemoryStorage, SealedStorage, StateFileError

LOGIN: Final = "login"
# Instead of the content of a message that may hold a token.
_CONCEALED: Final = "dev.linearized.concealed"
# Tells the keys of what is sealed here from those of the MLS states.
_OF_TOKENS, _OF_EVENTS, _OF_MESSAGES = "access token of ", "event ", "message "

JsonObject = dict[str, Any]


class Sealing:
    """Seals and opens; ``key`` has 32 bytes, ``random`` gives as many random bytes as it is asked for."""

    def __init__(self, key: bytes, random: Callable[[int], bytes]) -> None:
        self._key = key
        self._random = random

    def _seal(self, owner: str, data: bytes) -> bytes:
        memory = MemoryStorage()
        SealedStorage(memory, key=self._key, owner=owner, random=self._random).save(data)
        return memory.data or b""

    def _open(self, owner: str, sealed: bytes) -> bytes:
        memory = MemoryStorage(sealed)
        return SealedStorage(memory, key=self._key, owner=owner, random=self._random).load() or b""

    def token(self, user_id: str, token: str) -> bytes:
        """A user's token, sealed; it opens as nobody else's."""
        return self._seal(_OF_TOKENS + user_id, token.encode())

    def open_token(self, user_id: str, sealed: bytes) -> str:
        """The inverse of ``token``.

        Raises:
            StateFileError: it was sealed with another key or for another user.
        """
        return self._open(_OF_TOKENS + user_id, sealed).decode()

    def message(self, log_event_id: str, data: bytes) -> bytes:
        """What was said by an event of the log, sealed; it opens as nothing else."""
        return self._seal(_OF_MESSAGES + log_event_id, data)

    def open_message(self, log_event_id: str, sealed: bytes) -> bytes:
        """The inverse of ``message``.

        Raises:
            StateFileError: it was sealed with another key or for another event.
        """
        return self._open(_OF_MESSAGES + log_event_id, sealed)

    def conceal(self, event: JsonObject) -> JsonObject:
        """The event as it may be written down: itself, or without its content if that may hold a token."""
        if not may_hold_token(event.get("content")):
            return event
        sealed = self._seal(_OF_EVENTS + str(event.get("event_id")), json.dumps(event["content"]).encode())
        return {**event, "content": {_CONCEALED: b64encode(sealed).decode()}}

    def reveal(self, event: Mapping[str, Any]) -> JsonObject:
        """The inverse of ``conceal``. What only looks concealed stays as it is."""
        content = event.get("content")
        sealed = content.get(_CONCEALED) if isinstance(content, dict) else None
        if not isinstance(sealed, str):
            return dict(event)
        try:
            opened = self._open(_OF_EVENTS + str(event.get("event_id")), b64decode(sealed))
            return {**event, "content": json.loads(opened)}
        except (StateFileError, ValueError):  # somebody wrote the name themselves
            return dict(event)


def may_hold_token(content: object) -> bool:
    """Whether this is the content of a message that begins like the command with a token."""
    body = content.get("body") if isinstance(content, dict) else None
    words = body.split(maxsplit=2) if isinstance(body, str) else []
    if words and words[0] == PREFIX:
        words = words[1:]
    return bool(words) and words[0].lower() == LOGIN
