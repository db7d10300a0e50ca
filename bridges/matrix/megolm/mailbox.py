"""To-device messages on their way in: on disk before the homeserver's transaction is answered, each once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import structlog

from bridges.matrix.database import Database
from bridges.matrix.megolm.signing import JsonObject

# One transaction has a hundred. What does not fit is refused with the transaction, and comes again.
MAX_WAITING = 10_000
# A to-device message is an event and so has at most 64 KiB; some slack for how it is written here.
MAX_MESSAGE = 128 * 1024
# Messages remembered as seen. What was pushed also waits in the inbox until that is read, which happens every
# few minutes at the latest.
SEEN_KEPT = 20_000

log = structlog.get_logger(__name__)


class MailboxFull(Exception):  # noqa: N818 - names the fact
    """There is no room for more messages now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message for one device of ours, as the homeserver vouches for it."""

    number: int
    type: str
    sender: str
    to_user: str
    to_device: str
    content: JsonObject


class Mailbox:
    """The messages that wait."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, messages: Iterable[object]) -> int:
        """Keep messages that were not here before; returns how many. What is too large or no message is
        dropped.

        Raises:
            MailboxFull: nothing was kept.
        """
        new = 0
        with self._database.together():
            waiting = int(self._database.one("SELECT COUNT(*) FROM to_device")[0])
            for message in messages:
                text = json.dumps(message, sort_keys=True)
                if not isinstance(message, dict) or len(text) > MAX_MESSAGE:
                    log.warning("a to-device message is dropped", size=len(text))
                    continue
                if not self._is_new(text):
                    continue
                if waiting + new >= MAX_WAITING:
                    raise MailboxFull
                self._database.run("INSERT INTO to_device (message) VALUES (?)", text)
                new += 1
            self._database.run(
                "DELETE FROM to_device_seen WHERE number <= (SELECT MAX(number) FROM to_device_seen) - ?",
                SEEN_KEPT,
            )
        return new

    def _is_new(self, text: str) -> bool:
        digest = sha256(text.encode()).digest()
        return bool(self._database.run("INSERT OR IGNORE INTO to_device_seen (digest) VALUES (?)", digest))

    def next(self) -> Letter | None:
        """The oldest message."""
        row = self._database.first("SELECT * FROM to_device ORDER BY number LIMIT 1")
        if row is None:
            return None
        message: Mapping[str, Any] = json.loads(row["message"])
        content = message.get("content")
        return Letter(
            number=row["number"],
            type=str(message.get("type", "")),
            sender=str(message.get("sender", "")),
            to_user=str(message.get("to_user_id", "")),
            to_device=str(message.get("to_device_id", "")),
            content=content if isinstance(content, dict) else {},
        )

    def done(self, letter: Letter) -> None:
        """The message was dealt with."""
        self._database.run("DELETE FROM to_device WHERE number = ?", letter.number)
