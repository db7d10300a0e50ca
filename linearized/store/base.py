"""The Store protocol: what the server needs kept, and how durable it has to be.

Reads are synchronous and small (call them in the loop, in pages); writes are awaited and durable on return.
All times are milliseconds since the Unix epoch. Blobs are stored and returned byte for byte. One contract
suite (``tests/store/contract.py``) runs against every implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from linearized.protocol.values import value_object
from linearized.store.account_data import AccountDataStore
from linearized.store.activity import ActivityStore
from linearized.store.archive import ArchiveStore
from linearized.store.contacts import ContactStore
from linearized.store.directory import DirectoryStore
from linearized.store.history import HistoryStore
from linearized.store.joining import JoinCodeStore
from linearized.store.moving import MovingStore
from linearized.store.parents import ParentStore
from linearized.store.past_trees import PastTreeRow, PastTreeStore
from linearized.store.profiles import ProfileStore
from linearized.store.pseudonyms import PseudonymStore
from linearized.store.pulling import PullCursorRow, PullStore
from linearized.store.receipts import ReceiptStore
from linearized.store.relations import RelationStore
from linearized.store.ways_in import WayStore

# How long an answer is remembered after it was given. A repetition comes when the answer was lost and the two
# meet again: within minutes, or after an outage of either; a client that lay in a drawer sends what it has
# not seen acknowledged when it is switched on. After a quarter of a year few come back. What is repeated even
# later is a new request: an LPDU becomes a second event; a PDU is known by its ID however old it is.
REPLY_DAYS: Final = 90


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


@value_object
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
    """The MLS group of a hub's room after the commit it was last written out with."""

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


@value_object
class Reply:
    """The remembered answer to a repeatable request: the same ``(scope, key)`` gets the same ``value``.

    ``lasting`` is for what is no answer but a fact; the others are forgotten after ``REPLY_DAYS``. Of what is
    ``replacing`` the latest stands, of all else the first.
    """

    scope: str
    key: str
    value: str
    lasting: bool = False
    replacing: bool = False


@value_object
class RoomAppend:
    """One atomic change of one room, refused whole (``AppendConflict``) unless ``entries`` continue its log.

    The store derives memberships from ``m.room.member`` entries (``content.membership``); ``memberships`` are
    set after those, for what no entry says. ``room`` creates the room when it is new, and else updates its
    version, role and hub; its ``head_seq`` is not used: logs start at 1 and the store counts. The room's
    epoch is that of the last entry that has one, or of ``group``, or ``room``'s. ``replies`` and
    ``to_device`` become visible with the entries or not at all.
    """

    room_id: str
    entries: tuple[EntryRow, ...] = ()
    room: RoomRow | None = None
    group: GroupRow | None = None
    memberships: tuple[MembershipRow, ...] = ()
    replies: tuple[Reply, ...] = ()
    to_device: tuple[NewToDevice, ...] = ()
    followers: tuple[FollowerRow, ...] = ()  # cursors that start or end with these entries
    past_trees: tuple[PastTreeRow, ...] = ()
    pulled: PullCursorRow | None = None  # where we are with the hub we fetched these entries from
    followed: bytes | None = None  # whose the leaves of a followed room's group are; empty to forget it


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerRow:
    """A follower's cursor: it took everything up to ``cursor``. ``stop_seq`` ends it (a kicked provider)."""

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
    """A device of a local user. Tokens are kept as SHA-256 in hex.

    Attributes:
        token_hash: of its access token, None if it has none.
        expires_ts: when that ends; None for never.
        refresh_hash: of the token it renews its access token with.
        spent_refresh_hash, spent_token_hash: of the tokens it had before.
    """

    user_id: str
    device_id: str
    display_name: str | None
    token_hash: str | None
    expires_ts: int | None = None
    refresh_hash: str | None = None
    spent_refresh_hash: str | None = None
    spent_token_hash: str | None = None


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


class Store(
    HistoryStore,
    MovingStore,
    PastTreeStore,
    PullStore,
    ContactStore,
    PseudonymStore,
    JoinCodeStore,
    AccountDataStore,
    ActivityStore,
    ArchiveStore,
    ReceiptStore,
    RelationStore,
    ProfileStore,
    DirectoryStore,
    ParentStore,
    WayStore,
    Protocol,
):
    """Everything a server keeps. Implementations: ``linearized.store.sqlite``."""

    # --- writes: durable on return ---
    async def append(self, append: RoomAppend) -> None:
        """Append atomically; appends waiting when the writer is free share one transaction (group commit).

        Raises:
            AppendConflict: ``entries`` do not continue the log, or hold an event ID that is in a log already.
            Only
                this append is refused, its neighbours go through.
            StoreError: the room is unknown and ``room`` is None; the parts name different rooms.
        """
        ...

    async def put_user(self, user: UserRow) -> bool:
        """Create an account; False, and nothing changed, if it exists."""
        ...

    async def put_device(self, device: DeviceRow) -> None:
        """Insert or replace a device. StoreError if another device has its access token."""
        ...

    async def delete_device(self, user_id: str, device_id: str) -> None:
        """Forget a device, what it says of itself, its key packages and the messages waiting for it."""
        ...

    async def put_key_packages(
        self, packages: Sequence[KeyPackageRow], *, withdrawn: Sequence[bytes] = ()
    ) -> None:
        """Store packages, and with them forget others. One that is stored already stays as it is.

        Args:
            withdrawn: KeyPackageRefs; of those that were claimed nothing is forgotten.
        """
        ...

    async def claim_key_package(
        self,
        *,
        user_id: str,
        device_id: str,
        ciphersuites: Sequence[int],
        now_ms: int,
        fits: Callable[[bytes], bool] | None = None,
    ) -> KeyPackageRow | None:
        """Hand out one package: never the same twice, never expired, of the earliest suite that has one.

        A last-resort package is handed out only when nothing else is left, and stays.

        Args:
            fits: looks at a package and says whether it will do. It is called within the transaction.
        """
        ...

    async def put_key_package_routes(
        self, routes: Mapping[bytes, str], expires_ms: int, *, room_id: str | None = None
    ) -> None:
        """Remember at which provider each KeyPackageRef lives, and for which room it was handed out, if it
        was for one.
        """
        ...

    async def put_room_routes(self, room_id: str, routes: Mapping[bytes, str], expires_ms: int) -> None:
        """The same for the room alone: another hub has said so. What is known stays."""
        ...

    async def expire(self, now_ms: int) -> int:
        """Remove expired key packages, routes, replies and closed reports, a bounded number at a time; how
        many. Repeat until 0.

        A reply counts as given on the day of the latest call before it.
        """
        ...

    async def put_to_device(self, messages: Sequence[NewToDevice], reply: Reply | None = None) -> None:
        """Store messages with the reply to their request; nothing if that reply is remembered already."""
        ...

    async def delete_to_device(self, user_id: str, device_id: str, up_to: int) -> None:
        """Forget the device's messages with ``position <= up_to``."""
        ...

    async def put_follower(self, follower: FollowerRow) -> None:
        """Insert a follower, or move its cursor and stop. StoreError if the room is unknown."""
        ...

    async def move_cursors(self, followers: Sequence[FollowerRow]) -> None:
        """Move followers' cursors forward, and leave their stops as they are; one that does not exist stays
        so.
        """
        ...

    async def put_device_object(self, user_id: str, device_id: str, value: bytes) -> None:
        """Insert or replace what a device, of this server or another, says of itself: a JSON object."""
        ...

    async def delete_device_objects(self, user_id: str, device_ids: Sequence[str]) -> None:
        """Forget what devices say of themselves."""
        ...

    async def put_reply(self, reply: Reply) -> None:
        """Remember a reply; the first one for its scope and key stays until it expires."""
        ...

    async def put_server_keys(self, keys: Sequence[ServerKeyRow]) -> None:
        """Insert or replace remote servers' keys."""
        ...

    async def put_media(self, media: MediaRow) -> None:
        """Record an uploaded file. StoreError if its ID exists."""
        ...

    # --- reads: synchronous; lists of entries and messages are bounded by `limit` ---
    def room(self, room_id: str) -> RoomRow | None:
        """The room, or None."""
        ...

    def rooms(self) -> list[RoomRow]:
        """All rooms, oldest first."""
        ...

    def entries(self, room_id: str, *, after: int, limit: int) -> list[EntryRow]:
        """Entries with ``seq > after``, ascending."""
        ...

    def entries_before(self, room_id: str, *, before: int, limit: int) -> list[EntryRow]:
        """Entries with ``seq < before``, descending."""
        ...

    def followed_group(self, room_id: str) -> bytes | None:
        """What ``RoomAppend.followed`` last set for the room, or None."""
        ...

    def proposals(self, room_id: str, *, after: int, limit: int) -> list[EntryRow]:
        """The ``m.mls.proposal`` entries with ``seq > after``, ascending, at most ``limit``; the cost is
        theirs alone.
        """
        ...

    def commit_before(self, room_id: str, *, seq: int) -> EntryRow | None:
        """The last ``m.mls.commit`` entry before entry ``seq``, or None; costs the same in any room."""
        ...

    def commit_entries(self, room_id: str, *, after: int, limit: int) -> list[EntryRow]:
        """The ``m.mls.commit`` entries, as ``proposals``."""
        ...

    def entry_by_id(self, event_id: str) -> EntryRow | None:
        """The entry with this event ID, in whichever room."""
        ...

    def state_at(self, room_id: str, *, seq: int, members: bool = True) -> list[EntryRow]:
        """The state in force after entry ``seq``, in log order.

        For each (type, state_key) that is the latest entry with that ``seq`` or a lower one. The memberships,
        in a large room nearly all of it, come only with ``members``.
        """
        ...

    def state_entry(self, room_id: str, event_type: str, state_key: str, *, seq: int) -> EntryRow | None:
        """The one of ``state_at`` with this type and state key, or None; costs the same in any room."""
        ...

    def memberships(self, room_id: str) -> list[MembershipRow]:
        """Everybody who has or had a membership in the room."""
        ...

    def members_of(self, room_id: str, server: str) -> list[MembershipRow]:
        """The same for the users of one server."""
        ...

    def membership(self, room_id: str, user_id: str) -> MembershipRow | None:
        """The user's in the room, or None if they never had one."""
        ...

    def rooms_of(self, user_id: str) -> list[MembershipRow]:
        """The user's memberships, whatever they are, in all rooms."""
        ...

    def group(self, room_id: str) -> GroupRow | None:
        """The room's MLS group as it was last written out, or None."""
        ...

    def position(self) -> int:
        """Global position, grows with every append; a sync token is made of it. 0 before the first."""
        ...

    def changed_rooms(self, since: int) -> dict[str, int]:
        """Rooms changed after global position ``since``, each with its first new ``seq``.

        A room whose memberships changed without an entry counts, with the ``seq`` its next entry will have.
        """
        ...

    def reply(self, scope: str, key: str) -> str | None:
        """The remembered answer, or None."""
        ...

    def replies(self, scope: str, keys: Sequence[str]) -> dict[str, str]:
        """The remembered answers among ``keys``."""
        ...

    def user(self, user_id: str) -> UserRow | None:
        """The account, or None."""
        ...

    def devices(self, user_id: str) -> list[DeviceRow]:
        """The user's devices, by device ID."""
        ...

    def device_objects(self, user_id: str) -> dict[str, bytes]:
        """What the user's devices say of themselves, by device ID."""
        ...

    def device_by_token(self, token_hash: str) -> DeviceRow | None:
        """The device whose access token has this SHA-256 (hex), or None."""
        ...

    def device_by_refresh(self, refresh_hash: str) -> DeviceRow | None:
        """The device whose refresh token, the present one or the one before, has this hash, or None."""
        ...

    def device_by_spent_token(self, token_hash: str) -> DeviceRow | None:
        """The device whose access token before the present one has this hash, or None."""
        ...

    def key_package_counts(self, user_id: str, device_id: str) -> dict[int, int]:
        """Unclaimed, not last-resort packages by cipher suite."""
        ...

    def unclaimed_key_packages(self, user_id: str, device_id: str) -> list[KeyPackageRow]:
        """A device's packages that were not handed out, last-resort ones too, whether or not they have
        expired.
        """
        ...

    def claimable_key_package(self, user_id: str, device_id: str, *, now_ms: int) -> KeyPackageRow | None:
        """Of a device's packages of any suite that could be handed out, the one that lasts longest; None if
        it has run out.
        """
        ...

    def key_package(self, reference: bytes) -> KeyPackageRow | None:
        """The package with this KeyPackageRef, claimed or not, or None."""
        ...

    def key_package_route(self, reference: bytes, *, room_id: str | None = None) -> str | None:
        """The provider at which the key package with this KeyPackageRef lives, or None.

        Args:
            room_id: the room it is asked for; what is known for that room alone counts then.
        """
        ...

    def room_routes(self, room_id: str, *, now_ms: int, limit: int) -> dict[bytes, tuple[str, int]]:
        """The provider of each KeyPackageRef that was handed out for a room, and until when that is kept;
        those kept longest if there are more than ``limit``.
        """
        ...

    def to_device(self, user_id: str, device_id: str, *, after: int, limit: int) -> list[ToDeviceRow]:
        """Messages waiting for the device with ``position > after``, oldest first."""
        ...

    def to_device_from(self, user_id: str, device_id: str, server: str) -> tuple[int, int]:
        """How many messages from users of a server wait for the device, and the bytes of their contents."""
        ...

    def to_device_addresses(self, device_id: str) -> list[str]:
        """The users for whose device of this name messages are waiting, in order."""
        ...

    def to_device_position(self) -> int:
        """The position of the newest message ever stored, delivered or not; 0 if there was none."""
        ...

    def followers(self, room_id: str | None = None) -> list[FollowerRow]:
        """The followers of one room, or of all."""
        ...

    def cursors(self, room_id: str, provider: str) -> list[FollowerRow]:
        """A provider's cursors in a room, one for each protocol it followed by."""
        ...

    def server_keys(self, server_name: str) -> list[ServerKeyRow]:
        """The server's keys as last seen, by key ID."""
        ...

    def media(self, media_id: str) -> MediaRow | None:
        """The uploaded file's record, or None."""
        ...

    async def aclose(self) -> None:
        """Finish the writes submitted so far, then close."""
        ...
