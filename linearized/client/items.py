"""What a session hands to its user, one item at a time, in the order of the log.

Every item survives a restart until it is acknowledged, so each has a form that CBOR can carry
(``to_record`` and ``item_from_record``). Timestamps are milliseconds since the Unix epoch, as the hub
accepted the entry.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from linearized.client.errors import StateFileError
from linearized.client.transport import JsonObject
from linearized.mimi.content import MimiContent, message_id
from linearized.mimi.media_types import read_message
from linearized.protocol.identifiers import room_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Base of all items: the room and, for entries of its log, the event that caused it."""

    KIND: ClassVar[str] = ""

    room_id: str
    event_id: str = ""
    timestamp: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomEvent(Item):
    """An entry in plaintext: state other than membership, or imported history. ``event`` is the client
    event.
    """

    KIND: ClassVar[str] = "event"

    event: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipChanged(Item):
    """``user_id`` is now ``membership`` by the act of ``sender``; ``event`` is the client event."""

    KIND: ClassVar[str] = "membership"

    user_id: str
    membership: str
    sender: str
    event: JsonObject


class ReadableMessage:
    """What follows from a message's payload and from who sent it where."""

    __slots__ = ()

    room_id: str
    sender_uri: str
    payload: bytes

    @property
    def content(self) -> MimiContent:
        """The decoded content; it was decodable when it was read first."""
        return read_message(self.payload)

    @property
    def message_id(self) -> bytes:
        """The 32-byte MIMI message ID."""
        return message_id(self.content, sender_uri=self.sender_uri, room_uri=room_uri(self.room_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class DecryptedMessage(ReadableMessage, Item):
    """A message by another client, decrypted and its sender authenticated by MLS.

    ``payload`` is what was encrypted: MIMI content (CBOR), framed where the group asks for it; the message
    ID is a hash over the content. ``frank`` is the hub's stamp (an encoded ``Frank``), which was checked;
    with ``timestamp`` it is what an abuse report needs.
    """

    KIND: ClassVar[str] = "message"

    sender_uri: str
    client_uri: str
    epoch: int
    payload: bytes
    frank: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnMessage(Item):
    """A message this device sent has its place in the log."""

    KIND: ClassVar[str] = "own"

    transaction_id: str
    payload: bytes

    @property
    def content(self) -> MimiContent:
        """The content as it was sent."""
        return read_message(self.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitiesShared(Item):
    """In a minimal metadata room somebody, or this device, told who is who: look again."""

    KIND: ClassVar[str] = "identities"


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecryptable(Item):
    """A message this device cannot read or does not believe, and why.

    ``expected`` if it was sent before this device came into the group, so that nothing is wrong.
    ``frank_fault`` is a ``FrankFault`` if what is wrong is how the message is franked.
    """

    KIND: ClassVar[str] = "undecryptable"

    sender: str
    reason: str
    expected: bool = False
    frank_fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined(Item):
    """This device is now in the room's MLS group."""

    KIND: ClassVar[str] = "joined"

    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochChanged(Item):
    """A commit took effect. ``added`` and ``removed`` are client URIs; ``committer`` is one, too."""

    KIND: ClassVar[str] = "epoch"

    epoch: int
    committer: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLost(Item):
    """This device is out of the room's MLS group: removed, or too far behind. ``removed`` tells which."""

    KIND: ClassVar[str] = "lost"

    removed: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveRequested(Item):
    """Another device says it is this user's and asks for the keys of archives: to be shown, and given to
    ``Archive.approve`` if the user confirms it. Of no room.

    ``client_uri`` is who it says it is; nothing of it has been checked.
    """

    KIND: ClassVar[str] = "archive_requested"

    client_uri: str
    request: bytes
    signature: bytes
    mac: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveShared(Item):
    """Another device of this user gave us the key of an archive of the room: ``Archive.read`` reads it."""

    KIND: ClassVar[str] = "archive_shared"

    client_uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveStopped(Item):
    """The room's messages are no longer kept for other devices; the reason says why."""

    KIND: ClassVar[str] = "archive_stopped"

    reason: str


_KINDS: dict[str, type[Item]] = {
    kind.KIND: kind
    for kind in (
        RoomEvent,
        MembershipChanged,
        DecryptedMessage,
        OwnMessage,
        IdentitiesShared,
        Undecryptable,
        Joined,
        EpochChanged,
        GroupLost,
        ArchiveRequested,
        ArchiveShared,
        ArchiveStopped,
    )
}


def to_record(item: Item) -> dict[str, Any]:
    """The item as a map of CBOR values."""
    return {"kind": item.KIND, **asdict(item)}


def item_from_record(record: dict[str, Any]) -> Item:
    """The inverse of ``to_record``.

    Raises:
        StateFileError: the record is of no known kind.
    """
    kind = _KINDS.get(record.get("kind", ""))
    if kind is None:
        raise StateFileError("the saved state holds an item of an unknown kind")
    values: dict[str, Any] = {
        field.name: tuple(record[field.name]) if isinstance(record[field.name], list) else record[field.name]
        for field in fields(kind)
        if field.name in record
    }
    return kind(**values)
