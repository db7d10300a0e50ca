"""Whose the application messages of an epoch are, so that nobody sends another's once more.

Each message uses up a key of its sender's, so members refuse what comes again; a hub that took it would only
give them something to refuse, under another name. The same sender's repetition is let be: it is a client that
has not heard our answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from linearized.room.submissions import Reason, Rejected

MAX_MESSAGES: Final = 1024
"""The latest of an epoch that are remembered, about 300 bytes each. Who sends an older one again has members
refuse it."""
_BYTES: Final = 16  # of a SHA-256: nobody finds another message for one of those

Fingerprint = tuple[bytes, str]
"""A message, and the user ID of who sent it."""


def fingerprint(message: bytes, sender: str) -> Fingerprint:
    """What is remembered of a message.

    Args:
        message: an MLSMessage.
        sender: a user ID.
    """
    return sha256(message).digest()[:_BYTES], sender


class Replays:
    """The latest messages of the present epoch.

    Args:
        known: those of it that the log holds, oldest first.
    """

    def __init__(self, known: Iterable[Fingerprint] = ()) -> None:
        self._senders: OrderedDict[bytes, str] = OrderedDict()
        for one in known:
            self.note(one)

    def __len__(self) -> int:
        return len(self._senders)

    def check(self, one: Fingerprint) -> None:
        """Refuse what somebody else has sent.

        Raises:
            Rejected: ``FORBIDDEN``.
        """
        digest, sender = one
        if self._senders.get(digest, sender) != sender:
            raise Rejected(Reason.FORBIDDEN, "The message is in the log already, by somebody else")

    def note(self, one: Fingerprint) -> None:
        """A message was accepted."""
        digest, sender = one
        self._senders.setdefault(digest, sender)
        if len(self._senders) > MAX_MESSAGES:
            self._senders.popitem(last=False)

    def clear(self) -> None:
        """Another epoch has begun: messages of the one before are refused for that."""
        self._senders.clear()
