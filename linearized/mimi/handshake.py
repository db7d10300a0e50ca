"""Updating a room: HandshakeBundle and UpdateRoomResponse (draft-ietf-mimi-protocol-06, "Update Room State").

An ``UpdateRequest`` is a ``HandshakeBundle`` and nothing else: the protocol its select looks at is the
room's, which is not on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Self

from linearized.mimi.mls_framing import (
    message_kind,
    walk_extensions,
    walk_group_info,
    walk_public_handshake,
    walk_public_proposal,
    walk_ratchet_tree,
    walk_welcome,
    welcome_message,
    welcome_struct,
)
from linearized.mimi.tls import (
    MAX_URI_BYTES,
    Bytes,
    Enumeration,
    Maybe,
    Opaque,
    Raw,
    Reader,
    String,
    Struct,
    Text,
    Uint,
    Vector,
    When,
)

__all__ = [
    "GroupInfoOption",
    "GroupInfoRepresentation",
    "HandshakeBundle",
    "PartialGroupInfo",
    "RatchetTreeOption",
    "RatchetTreePresence",
    "RatchetTreeRepresentation",
    "UpdateResponseCode",
    "UpdateRoomResponse",
    "welcome_message",
    "welcome_struct",
]


class GroupInfoRepresentation(IntEnum):
    """How a committer sends the GroupInfo of the new epoch."""

    FULL = 1
    PARTIAL = 2


class RatchetTreePresence(IntEnum):
    """What became of the ratchet_tree extension in a partial GroupInfo."""

    NO_RATCHET_TREE = 0
    PRESENT = 1
    REMOVED = 2
    ADDED = 3


class RatchetTreeRepresentation(IntEnum):
    """How the ratchet tree is conveyed."""

    FULL = 1
    HTTPS_URI = 2
    OUT_OF_BAND = 3
    DISTRIBUTION_SERVICE = 4


class UpdateResponseCode(IntEnum):
    """What the hub did with an update."""

    SUCCESS = 0
    WRONG_EPOCH = 1
    NOT_ALLOWED = 2
    INVALID_PROPOSAL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialGroupInfo(Struct):
    """What the distribution service cannot work out of a GroupInfo (draft-mahy-mls-ratchet-tree-options-02).

    ``group_info_extensions`` is the ``Extension …<V>`` vector with its length, without ``ratchet_tree``.
    """

    ratchet_tree_presence: Annotated[RatchetTreePresence, Enumeration(RatchetTreePresence)]
    group_info_extensions: Annotated[bytes, Raw(walk_extensions)]
    signature: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupInfoOption(Struct):
    """The GroupInfo of the new epoch: ``full``, a GroupInfo without MLSMessage header, or ``partial``."""

    full: bytes | None = None
    partial: PartialGroupInfo | None = None

    def __post_init__(self) -> None:
        if (self.full is None) == (self.partial is None):
            raise ValueError("a GroupInfoOption is either full or partial")

    @property
    def representation(self) -> GroupInfoRepresentation:
        """Which of the two it is."""
        return GroupInfoRepresentation.PARTIAL if self.full is None else GroupInfoRepresentation.FULL

    @classmethod
    def read_from(cls, reader: Reader) -> Self:
        """Read the representation and what it selects."""
        if _REPRESENTATION.read(reader, {}) is GroupInfoRepresentation.FULL:
            return cls(full=_GROUP_INFO.read(reader, {}))
        return cls(partial=PartialGroupInfo.read_from(reader))

    def write_to(self, out: bytearray) -> None:
        """Append the representation and what it selects."""
        _REPRESENTATION.write(self.representation, out, {})
        if self.partial is not None:
            self.partial.write_to(out)
        else:
            _GROUP_INFO.write(self.full, out, {})


_REPRESENTATION = Enumeration(GroupInfoRepresentation)
_GROUP_INFO = Raw(walk_group_info)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatchetTreeOption(Struct):
    """The ratchet tree, or where to get it (draft-mahy-mls-ratchet-tree-options-02).

    ``tree`` is the ``ratchet_tree`` extension's ``optional<Node> ratchet_tree<V>``, with its length in front.
    """

    representation: Annotated[RatchetTreeRepresentation, Enumeration(RatchetTreeRepresentation)]
    tree: Annotated[bytes | None, When("representation", (1,), Raw(walk_ratchet_tree))] = None
    url: Annotated[str | None, When("representation", (2,), Text("ascii", MAX_URI_BYTES))] = None
    tree_signature: Annotated[bytes | None, When("representation", (2, 3), Opaque())] = None

    @classmethod
    def full(cls, tree: bytes) -> Self:
        """An option that holds the tree itself."""
        return cls(representation=RatchetTreeRepresentation.FULL, tree=tree)


def _content_type(message: bytes) -> str | None:
    return message_kind(message).content_type


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeBundle(Struct):
    """A commit or proposal and what goes with it: the body of ``POST /update/{roomId}``.

    ``message`` is an MLSMessage(PublicMessage). A commit has ``group_info`` and ``ratchet_tree``, and, if
    it adds members, a ``welcome`` (bare, see ``welcome_message``); a proposal has only ``more_proposals``
    (MLSMessages).
    """

    message: Annotated[bytes, Raw(walk_public_handshake)]
    welcome: Annotated[
        bytes | None, When("message", ("commit",), Maybe(Raw(walk_welcome)), _content_type)
    ] = None
    group_info: Annotated[
        GroupInfoOption | None, When("message", ("commit",), GroupInfoOption, _content_type)
    ] = None
    ratchet_tree: Annotated[
        RatchetTreeOption | None, When("message", ("commit",), RatchetTreeOption, _content_type)
    ] = None
    more_proposals: Annotated[
        tuple[bytes, ...],
        When("message", ("proposal",), Vector(Raw(walk_public_proposal)), _content_type, ()),
    ] = ()

    @property
    def is_commit(self) -> bool:
        """Whether ``message`` is a commit; otherwise it is a proposal."""
        return _content_type(self.message) == "commit"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRoomResponse(Struct):
    """The hub's answer to an update.

    ``accepted_timestamp`` is in milliseconds since the Unix epoch; ``invalid_proposals`` are ProposalRefs.
    """

    code: Annotated[UpdateResponseCode, Enumeration(UpdateResponseCode)]
    description: String = ""
    accepted_timestamp: Annotated[int | None, When("code", (UpdateResponseCode.SUCCESS,), Uint(8))] = None
    current_epoch: Annotated[int | None, When("code", (UpdateResponseCode.WRONG_EPOCH,), Uint(8))] = None
    invalid_proposals: Annotated[
        tuple[bytes, ...],
        When("code", (UpdateResponseCode.INVALID_PROPOSAL,), Vector(Opaque()), absent=()),
    ] = ()
