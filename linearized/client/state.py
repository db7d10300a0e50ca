"""Everything a device has to remember, as one value that is saved whole.

One blob, one atomic write: the MLS state, the sync token it corresponds to, what was decrypted but not yet
handed over, and what was encrypted but not yet confirmed can never disagree, whenever the process is killed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import cbor2

from linearized.client.archive.state import ArchiveState
from linearized.client.errors import StateFileError
from linearized.client.items import Item, item_from_record, to_record

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingCommit:
    """A commit on its way to the hub: all that is needed to send it again or to recognise it in the log.

    ``bundle`` is the encoded HandshakeBundle; ``group_info`` and ``ratchet_tree`` are those of epoch 0 if
    this is the commit that makes the group known; ``external`` if it is how this device joins.
    """

    digest: bytes
    bundle: bytes
    external: bool = False
    group_info: bytes | None = None
    ratchet_tree: bytes | None = None

    @property
    def initial_group(self) -> tuple[bytes, bytes] | None:
        """The pair ``ProviderApi.update`` takes."""
        if self.group_info is None or self.ratchet_tree is None:
            return None
        return self.group_info, self.ratchet_tree


@dataclass(slots=True, kw_only=True)
class RoomRecord:
    """What a device knows of a room beside its MLS state.

    ``last_seq`` is the last entry processed; ``commit_event_id`` the commit that began the current epoch;
    ``merged`` the digest of the last own commit that took effect; ``lost`` if the group must be rejoined;
    ``joined_epoch`` is
    the first epoch this device was in; ``gone`` are users who left, whom the next commit has to remove if
    they are in the group; ``leaving`` the bundle of proposals by which this user leaves, while the hub may
    not have it yet; ``hub`` the provider that the room has moved to, if it has, and ``former_hub`` the one
    that it has moved from.
    """

    last_seq: int = 0
    commit_event_id: str | None = None
    pending: PendingCommit | None = None
    merged: bytes | None = None
    lost: bool = False
    joined_epoch: int = 0
    gone: list[str] = field(default_factory=list)
    leaving: bytes | None = None
    hub: str | None = None
    former_hub: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message encrypted once, whose place in the log is not confirmed yet."""

    room_id: str
    ciphertext: bytes
    digest: bytes
    payload: bytes
    sent: bool = False

    def confirmed(self) -> Outgoing:
        """The same message, known to be in the log."""
        return replace(self, sent=True)


@dataclass(slots=True, kw_only=True)
class SavedState:
    """The whole; ``outbox`` is keyed by transaction ID.

    A pseudonym's device also has ``link_keys``, by which it knows the clients of minimal metadata rooms (by
    client URI), and ``unshared``, the rooms in which it has not sent them yet to those it added. ``archive``
    is what it keeps for devices to come.
    """

    mls: bytes
    since: str | None = None
    fallback_uploaded: bool = False
    rooms: dict[str, RoomRecord] = field(default_factory=dict)
    inbox: list[Item] = field(default_factory=list)
    outbox: dict[str, Outgoing] = field(default_factory=dict)
    link_keys: dict[str, bytes] = field(default_factory=dict)
    unshared: list[str] = field(default_factory=list)
    archive: ArchiveState = field(default_factory=ArchiveState)

    def encode(self) -> bytes:
        """The blob to save."""
        return cbor2.dumps(
            {
                "version": FORMAT_VERSION,
                "mls": self.mls,
                "since": self.since,
                "fallback_uploaded": self.fallback_uploaded,
                "rooms": {room_id: asdict(record) for room_id, record in self.rooms.items()},
                "inbox": [to_record(item) for item in self.inbox],
                "outbox": {txn_id: asdict(message) for txn_id, message in self.outbox.items()},
                "link_keys": self.link_keys,
                "unshared": self.unshared,
                "archive": self.archive.to_record(),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> SavedState:
        """Read a saved blob.

        Raises:
            StateFileError: it is damaged or of another format version.
        """
        try:
            value = cbor2.loads(data)
        except (cbor2.CBORDecodeError, UnicodeDecodeError) as error:
            raise StateFileError("the saved state is damaged") from error
        if not isinstance(value, dict) or value.get("version") != FORMAT_VERSION:
            raise StateFileError("the saved state has another format version")
        try:
            return cls(
                mls=value["mls"],
                since=value["since"],
                fallback_uploaded=value["fallback_uploaded"],
                rooms={room_id: _record(record) for room_id, record in value["rooms"].items()},
                inbox=[item_from_record(item) for item in value["inbox"]],
                outbox={txn_id: Outgoing(**message) for txn_id, message in value["outbox"].items()},
                # States from before there were pseudonyms have neither.
                link_keys=dict(value.get("link_keys", {})),
                unshared=list(value.get("unshared", [])),
                archive=ArchiveState.from_record(value.get("archive", {})),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise StateFileError("the saved state is damaged") from error


def _record(value: dict[str, Any]) -> RoomRecord:
    pending = value.pop("pending")
    return RoomRecord(**value, pending=None if pending is None else PendingCommit(**pending))
