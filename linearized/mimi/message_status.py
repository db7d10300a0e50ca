"""What became of messages at a reader: delivered, read, … (draft-mahy-mimi-message-status-01), in CBOR.

A report is the body of an ordinary message (``status_report``), so only members of the room can read it. The
room's policy says whether reports may or must be sent (``mimi.policy.status``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Self

from linearized.exceptions import MimiDecodeError
from linearized.mimi import _cbor
from linearized.mimi._content_cbor import is_message_id
from linearized.mimi.content import MimiContent, SinglePart

CONTENT_TYPE: Final = "application/mimi-message-status"
# Messages in one report: a screenful or a day of a busy room. Whoever has read more says so in several.
MAX_STATUSES: Final = 1000
_DEPTH: Final = 2  # a list of pairs


class MessageStatus(IntEnum):
    """The values of the draft."""

    UNREAD = 0
    DELIVERED = 1
    READ = 2
    EXPIRED = 3
    DELETED = 4
    HIDDEN = 5
    ERROR = 6


@dataclass(frozen=True, slots=True)
class StatusReport:
    """Message IDs (32 octets) of one room, each with its status, to be taken in this order."""

    statuses: tuple[tuple[bytes, MessageStatus], ...]

    def encode(self) -> bytes:
        """Deterministic CBOR; ``ValueError`` if a field is out of bounds."""
        data = _cbor.dumps([[message_id, int(status)] for message_id, status in self.statuses])
        try:
            self.decode(data)
        except MimiDecodeError as error:  # the decoder's rules are the only copy of the rules
            raise ValueError(str(error)) from error
        return data

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a report.

        Raises:
            MimiDecodeError: it is not deterministic CBOR of the draft's schema, or too long.
        """
        items = _cbor.loads(data, max_depth=_DEPTH)
        if not isinstance(items, tuple) or not 0 < len(items) <= MAX_STATUSES:
            raise MimiDecodeError(f"a status report is a list of 1 to {MAX_STATUSES} statuses")
        return cls(tuple(map(_status, items)))


def _status(item: object) -> tuple[bytes, MessageStatus]:
    match item:
        case (bytes() as message_id, int() as value) if is_message_id(message_id):
            if 0 <= value < len(MessageStatus) and not isinstance(value, bool):
                return message_id, MessageStatus(value)
    raise MimiDecodeError("a status is a message ID and a number of 0 to 6")


def status_report(
    statuses: tuple[tuple[bytes, MessageStatus], ...],
    *,
    salt: bytes,
    extensions: Mapping[int | str, Any] | None = None,
) -> MimiContent:
    """The message that carries a report; ``ValueError`` as ``StatusReport.encode``."""
    part = SinglePart(content_type=CONTENT_TYPE, content=StatusReport(statuses).encode())
    return MimiContent(salt=salt, extensions=extensions or {}, part=part)


def report_in(content: MimiContent) -> StatusReport | None:
    """The report that a message carries, None if it is another message.

    Raises:
        MimiDecodeError: it says that it carries one, and does not.
    """
    part = content.part
    if not isinstance(part, SinglePart) or part.content_type != CONTENT_TYPE:
        return None
    return StatusReport.decode(part.content)
