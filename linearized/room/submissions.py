"""What someone asks a hub to append, and what the room answers.

A submission is data. ``Room.submit(submission, now=...)`` returns ``Accepted`` or raises ``Rejected``;
nothing in between. Times are milliseconds since the Unix epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from linearized.exceptions import InvalidInput
from linearized.mimi.handshake import HandshakeBundle
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.outcomes import Outcome
from linearized.protocol.values import value_object
from linearized.protocol.verify import VerifiedLpdu
from linearized.room.credentials import ClientIdentity


class Reason(StrEnum):
    """Why a submission was refused; each face has a table from these to its own codes."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    BAD_SIGNATURE = "bad_signature"
    FORBIDDEN = "forbidden"
    WRONG_EPOCH = "wrong_epoch"
    INVALID_COMMIT = "invalid_commit"
    INVALID_PROPOSAL = "invalid_proposal"
    UNKNOWN_ROOM = "unknown_room"
    WRONG_HUB = "wrong_hub"


class Rejected(InvalidInput):
    """A submission was refused and changed nothing.

    Attributes:
        code: the reason, from ``Reason``.
        current_epoch: the group's epoch, given with ``WRONG_EPOCH``.
        invalid_proposals: ProposalRefs, given with ``INVALID_PROPOSAL``.
        outcome: what that means for an event from another server: rejected, or, where it never counted as
            an event at all, dropped.
    """

    def __init__(
        self,
        code: Reason,
        text: str,
        *,
        current_epoch: int | None = None,
        invalid_proposals: tuple[bytes, ...] = (),
        outcome: Outcome = Outcome.REJECTED,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.current_epoch = current_epoch
        self.invalid_proposals = invalid_proposals
        self.outcome = outcome


class OtherKeyPublished(Rejected):
    """A leaf has another signature key than its device has published, as far as the hub knows.

    Attributes:
        client: the device.
    """

    def __init__(self, client: ClientIdentity, reference: bytes | None = None) -> None:
        text = f"The device {client.device_id} of {client.user_id} has published another signature key"
        if reference is None:
            super().__init__(Reason.FORBIDDEN, text)
        else:  # of the proposal that brings the leaf: a commit can leave it out
            super().__init__(Reason.INVALID_PROPOSAL, text, invalid_proposals=(reference,))
        self.client = client


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEvent:
    """An event of one of the hub's own users, or of a user it vouches for (then ``provenance`` is set)."""

    sender: str
    type: str
    content: JsonObject
    state_key: str | None = None
    origin_server_ts: int | None = None
    provenance: JsonObject | None = None


@value_object
class LinearizedPdu:
    """A participant's LPDU, its signature and hash checked before it waits for its turn: that takes longest,
    and says the same at every point of the log.

    ``transfer`` says that it is the ``m.room.hub`` event of a transfer that this hub has agreed to.
    """

    lpdu: VerifiedLpdu
    transfer: bool = False

    @property
    def origin(self) -> str:
        """The server it is from."""
        return self.lpdu.origin

    @property
    def pdu(self) -> JsonObject:
        """Its JSON object."""
        return self.lpdu.lpdu.pdu


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """A MIMI ``HandshakeBundle`` from a provider (mutually authenticated) or a local client.

    Attributes:
        provider: the provider it came from; our own name for a local or bridged user's.
        user_id: the local user whose session it came in; None from another provider, which checked its own.
        introduced: the TLS-encoded Credentials of those added or proposed leaves whose key packages were
            handed out by the provider of the user they name. A credential is a claim; this is what it rests
            on.
        initial_group: only with the commit that creates a room's group: the GroupInfo and ratchet tree of
            epoch 0, both TLS-encoded.
        deletes_group: whether the commit is to end the room's group; it then removes all but its sender.
        invited_by: the creator of a joining code that the joiner of an external commit has shown to the hub.
    """

    bundle: HandshakeBundle
    provider: str
    user_id: str | None = None
    introduced: frozenset[bytes] = frozenset()
    initial_group: tuple[bytes, bytes] | None = None
    deletes_group: bool = False
    invited_by: str | None = None


@value_object
class ApplicationMessage:
    """A PrivateMessage (TLS-encoded MLSMessage) and the user URI its provider vouches for."""

    message: bytes
    sending_uri: str
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentChanged:
    """That somebody may not be in the room's parent room any more; the hub says so to itself."""


Submission = LocalEvent | LinearizedPdu | Handshake | ApplicationMessage | ParentChanged


@value_object
class NewEntry:
    """An entry about to be appended: its place, its event, and the MLS epoch after it.

    ``content`` is the event's with that of the parts before it, where a participant has put them together.
    ``soft_failed`` says why local clients are not shown it, None if they are.
    """

    seq: int
    event: Event
    epoch: int | None
    content: JsonObject | None = None
    soft_failed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WelcomeEffect:
    """A Welcome to route by its KeyPackageRefs, after the append is durable."""

    welcome: bytes
    ratchet_tree: bytes
    references: tuple[bytes, ...]
    commit_event_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupUpdate:
    """The group state to store in the same transaction as the entries that caused it."""

    epoch: int
    snapshot: bytes
    group_info: bytes
    ratchet_tree: bytes


@value_object
class Accepted:
    """What a submission became.

    ``group`` is what to store of the group, None if it has not changed or the log will do.
    ``entry`` stands for the submission as a whole. It follows the membership changes that it brings about by
    itself, and comes before what the hub adds because of it.
    """

    entries: tuple[NewEntry, ...]
    entry: NewEntry
    accepted_at: int
    group: GroupUpdate | None = None
    welcomes: tuple[WelcomeEffect, ...] = field(default=())

    @property
    def event_id(self) -> str:
        """Event ID of ``entry``."""
        return self.entry.event.event_id
