"""What the store keeps of joining codes: which there are, and whom they let in.

Times are milliseconds since the Unix epoch, users are Matrix user IDs. Of a code only its SHA-256 is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinCodeRow:
    """A code of a room, and how many more users it lets in."""

    room_id: str
    digest: bytes
    creator: str
    uses_left: int
    expires_ts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRow:
    """That a user who showed a code may join, by an invitation of the code's creator.

    Attributes:
        digest: of the code.
        member_event_id: the user's ``m.room.member`` event when they showed it, empty if there was none. Once
            there is another, the admission is used up.
    """

    room_id: str
    user_id: str
    creator: str
    digest: bytes
    member_event_id: str
    expires_ts: int


class JoinCodeStore(Protocol):
    """The part of ``Store`` for these."""

    async def put_join_code(self, code: JoinCodeRow, *, most: int) -> bool:
        """Add a code; False, and nothing changed, if the room has ``most`` already."""
        ...

    async def remove_join_code(self, room_id: str, digest: bytes) -> bool:
        """Revoke a code, and the admissions it gave; False if there is none such."""
        ...

    async def admit(self, admission: AdmissionRow, *, now_ms: int) -> bool:
        """Use a code for a user: False if it is used up, expired or revoked. Who is admitted by it already,
        with the same ``m.room.member`` event, uses it no second time.
        """
        ...

    def join_codes(self, room_id: str) -> list[JoinCodeRow]:
        """A room's codes, those that expire first first."""
        ...

    def admission(self, room_id: str, user_id: str) -> AdmissionRow | None:
        """The latest admission of a user to a room, or None."""
        ...
