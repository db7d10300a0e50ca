"""The Store protocol: what the server needs kept, and how durable it has to be.

Reads are synchronous and small (call them in the loop, in pages); writes are awaited and durable on return. All times
are milliseconds since the Unix epoch. Blobs are stored and returned byte for byte. One contract suite
(``tests/store/contract.py``) runs against every implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Role(StrEnum):
    """Our part in a room."""

    HUB = "hub"  # we order it
    PARTICIPANT = "participant"  # a Linearized Matrix hub sends us PDUs
    FOLLOWER = "follower"  # a MIMI hub sends us FanoutMessages


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomRow:
    """One room: who orders it and how far its log goes (``head_seq`` 0 means empty)."""

    room_id: str
    version: str
    role: Role
    hub: str
    head_seq: int
    epoch: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRow:
    """One entry of a room's log; ``pdu`` is canonical JSON exactly as signed."""

    room_id: str
    seq: int
    event_id: str
    type: str
    state_key: str | None
    sender: str
    origin_server_ts: int
    epoch: int | None
    pdu: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipRow:
    """A user's current membership in a room, and the entry that set it."""

    room_id: str
    user_id: str
    membership: str
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """The MLS group of a hub's room after its latest commit."""

    room_id: str
    epoch: int
    snapshot: bytes
    group_info: bytes
    ratchet_tree: bytes
    commit_event_id: str  # the entry that led to this epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class ToDeviceRow:
    """A message waiting for one device; ``position`` grows with every message stored."""

    position: int
    user_id: str
    device_id: str
    type: str
    sender: str
    content: bytes  # JSON object


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToDevice:
    """A to-device message to store."""

    user_id: str
    device_id: str
    type: str
    sender: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The remembered answer to an idempotent request: the same ``(scope, key)`` gets the same ``value`` again."""

    scope: str
    key: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomAppend:
    """One atomic change of one room. It is refused whole (``AppendConflict``) unless ``entries`` continue the log.

    ``memberships`` are derived by the store from ``m.room.member`` entries (``content.membership``); ``room`` creates
    the room when it is new. ``replies`` and ``to_device`` become visible with the entries or not at all.
    """

    room_id: str
    entries: tuple[EntryRow, ...] = ()
    room: RoomRow | None = None
    group: GroupRow | None = None
    memberships: tuple[MembershipRow, ...] = ()
    replies: tuple[Reply, ...] = ()
    to_device: tuple[NewToDevice, ...] = ()
    followers: tuple[FollowerRow, ...] = ()  # cursors that start or end with these entries


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerRow:
    """A follower's cursor: everything up to ``cursor`` was accepted by it. ``stop_seq`` ends it (a kicked provider)."""

    room_id: str
    provider: str
    protocol: str  # "mimi" or "linearized"
    cursor: int
    stop_seq: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    """A local account. ``password_hash`` is None for users a bridge manages."""

    user_id: str
    password_hash: str | None
    created_ts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """A device of a local user; ``token_hash`` is SHA-256 hex of its access token, None if it has none."""

    user_id: str
    device_id: str
    display_name: str | None
    token_hash: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPackageRow:
    """A key package waiting to be claimed (``claimed_at`` None) or handed out once."""

    reference: bytes  # KeyPackageRef
    user_id: str
    device_id: str
    client_uri: str
    key_package: bytes
    ciphersuite: int
    last_resort: bool
    not_after: int  # seconds since the Unix epoch, as in the MLS lifetime
    claimed_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerKeyRow:
    """A remote server's verify key as last seen."""

    server_name: str
    key_id: str
    key: bytes
    valid_until_ts: int
    expired_ts: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRow:
    """An uploaded file's record; its bytes lie in the media directory under ``media_id``."""

    media_id: str
    uploader: str
    content_type: str
    filename: str | None
    size: int
    created_ts: int


class Store(Protocol):
    """Everything a server keeps. Implementations: ``linearized.store.sqlite``."""

    # --- writes: durable on return ---
    async def append(self, append: RoomAppend) -> None:
        """Append atomically; appends waiting when the writer is free share one transaction (group commit).

        Raises:
            AppendConflict: ``entries`` do not continue the log; only this append is refused, its neighbours go through.
        """
        ...

    async def put_user(self, user: UserRow) -> bool: ...  # False if it exists
    async def put_device(self, device: DeviceRow) -> None: ...  # insert or replace
    async def delete_device(self, user_id: str, device_id: str) -> None: ...  # its key packages and messages too
    async def put_key_packages(self, packages: Sequence[KeyPackageRow]) -> None: ...
    async def claim_key_package(
        self, *, user_id: str, device_id: str, ciphersuites: Sequence[int], now_ms: int
    ) -> KeyPackageRow | None:
        """Hand out one package, never the same twice, never expired, a last-resort one only when nothing else is left
        (a last-resort package stays)."""
        ...

    async def put_key_package_routes(self, routes: Mapping[bytes, str], expires_ms: int) -> None:
        """Remember at which provider each KeyPackageRef lives."""
        ...

    async def put_to_device(self, messages: Sequence[NewToDevice], reply: Reply | None = None) -> None: ...
    async def delete_to_device(self, user_id: str, device_id: str, up_to: int) -> None: ...
    async def put_follower(self, follower: FollowerRow) -> None: ...  # insert, or move cursor/stop_seq
    async def put_reply(self, reply: Reply) -> None: ...
    async def put_server_keys(self, keys: Sequence[ServerKeyRow]) -> None: ...
    async def put_media(self, media: MediaRow) -> None: ...

    # --- reads: synchronous, bounded by `limit` ---
    def room(self, room_id: str) -> RoomRow | None: ...
    def rooms(self) -> list[RoomRow]: ...
    def entries(self, room_id: str, *, after: int, limit: int) -> list[EntryRow]:
        """Entries with ``seq > after``, ascending."""
        ...

    def entries_before(self, room_id: str, *, before: int, limit: int) -> list[EntryRow]:
        """Entries with ``seq < before``, descending."""
        ...

    def entry_by_id(self, event_id: str) -> EntryRow | None: ...
    def state_at(self, room_id: str, *, seq: int) -> list[EntryRow]:
        """The state entries in force after entry ``seq``: for each (type, state_key) the latest with seq <= ``seq``."""
        ...

    def memberships(self, room_id: str) -> list[MembershipRow]: ...
    def rooms_of(self, user_id: str) -> list[MembershipRow]: ...
    def group(self, room_id: str) -> GroupRow | None: ...
    def position(self) -> int:
        """Global position, grows with every append; a sync token is made of it."""
        ...

    def changed_rooms(self, since: int) -> dict[str, int]:
        """Rooms appended to after global position ``since``, each with its first new ``seq``."""
        ...

    def reply(self, scope: str, key: str) -> str | None: ...
    def replies(self, scope: str, keys: Sequence[str]) -> dict[str, str]: ...
    def user(self, user_id: str) -> UserRow | None: ...
    def devices(self, user_id: str) -> list[DeviceRow]: ...
    def device_by_token(self, token_hash: str) -> DeviceRow | None: ...
    def key_package_counts(self, user_id: str, device_id: str) -> dict[int, int]:
        """Unclaimed, not last-resort packages by cipher suite."""
        ...

    def key_package(self, reference: bytes) -> KeyPackageRow | None: ...
    def key_package_route(self, reference: bytes) -> str | None: ...
    def to_device(self, user_id: str, device_id: str, *, after: int, limit: int) -> list[ToDeviceRow]: ...
    def to_device_position(self) -> int: ...
    def followers(self, room_id: str | None = None) -> list[FollowerRow]: ...
    def server_keys(self, server_name: str) -> list[ServerKeyRow]: ...
    def media(self, media_id: str) -> MediaRow | None: ...
    async def aclose(self) -> None: ...
