"""What the store keeps of people who meet across providers: abuse reports, consent, and who can be found.

Times are milliseconds since the Unix epoch, users are Matrix user IDs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

ANY_ROOM = ""
"""In the place of a room ID: a consent for whatever room."""
# A closed report is kept for a quarter of a year, for whoever asks what became of it.
KEEP_CLOSED_MS: Final = 90 * 24 * 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """A report of abuse, for the operator.

    Attributes:
        number: given by the store; 0 before.
        digest: SHA-256 hex of the report and where it came from; the same report is kept once.
        provider: who sent it; our own name for one of our users.
        reporter: empty if the report does not say.
        report: the encoded AbuseReport, empty if it names an event only.
        event_id: what it names then, else empty.
        verified: messages in it whose stamps were found to be ours.
        closed_at: None while it waits for the operator.
    """

    number: int = 0
    digest: str
    room_id: str
    provider: str
    reporter: str
    abuser: str
    reason_code: int
    note: str
    report: bytes
    event_id: str
    verified: int
    received_at: int
    closed_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRow:
    """Whether ``requester`` may have key packages of ``target`` for a room, or for ``ANY_ROOM``.

    Attributes:
        state: a ``linearized.mimi.consent.ConsentState``.
        key_packages: those that came with a grant and were not taken yet: encoded KeyPackages, one after
            another.
    """

    requester: str
    target: str
    room_id: str
    state: str
    changed_at: int
    key_packages: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRow:
    """A field of a user's profile by which others may find them, and which they are shown then.

    ``source`` is the SearchIdentifierType that has a name: 7 for OpenID Connect claims, 8 for vCard
    properties, and 1 for the handle itself.
    """

    user_id: str
    source: int
    name: str
    value: str


class ContactStore(Protocol):
    """The part of ``Store`` for these."""

    async def put_report(self, report: ReportRow) -> int | None:
        """Keep a report; its number, or None if it is kept already, closed or not."""
        ...

    async def close_report(self, number: int, closed_at: int) -> bool:
        """Mark an open report as dealt with; False if there is none."""
        ...

    async def put_consent(self, consent: ConsentRow) -> None:
        """Insert or replace what is known for a requester, a target and a room."""
        ...

    async def delete_consent(self, requester: str, target: str, room_id: str) -> None:
        """Forget it."""
        ...

    async def take_key_packages(self, requester: str, target: str, room_id: str) -> bytes:
        """Hand out what came with a grant, once; empty afterwards."""
        ...

    async def put_consent_required(self, user_id: str, *, required: bool) -> None:
        """Remember whether a user's key packages are for those alone who were granted them."""
        ...

    async def put_fields(self, user_id: str, fields: Sequence[FieldRow]) -> None:
        """Replace the fields a user may be found by; none: cannot be found."""
        ...

    def report(self, number: int) -> ReportRow | None:
        """The report, or None."""
        ...

    def reports(self, *, closed: bool, limit: int) -> list[ReportRow]:
        """Reports, oldest first: open ones, or closed ones."""
        ...

    def open_reports(self, provider: str) -> int:
        """How many reports of a provider wait for the operator."""
        ...

    def consent(self, requester: str, target: str, room_id: str) -> ConsentRow | None:
        """What is known, or None."""
        ...

    def consents(self, requester: str, target: str) -> list[ConsentRow]:
        """What is known between two users, for any room and for single ones, by room ID."""
        ...

    def consents_of(self, user_id: str, *, limit: int) -> list[ConsentRow]:
        """What is known of a user, as requester or as target, latest first."""
        ...

    def waiting_consents(self, target: str) -> int:
        """How many requests wait for a user's answer."""
        ...

    def consent_required(self, user_id: str) -> bool | None:
        """What the user has set; None if nothing."""
        ...

    def fields(self, user_id: str) -> list[FieldRow]:
        """The fields a user may be found by, by source, name and value."""
        ...

    def find_exactly(self, source: int, names: Sequence[str], value: str, *, limit: int) -> list[str]:
        """Users with that value in one of the named fields, in order."""
        ...

    def find_containing(self, names: Sequence[str] | None, text: str, *, limit: int) -> list[str]:
        """Users with ``text``, in whatever case, inside one of the named fields (None: of any), in order."""
        ...
