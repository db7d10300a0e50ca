"""What a device remembers of archives, as part of its saved state."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(slots=True, kw_only=True)
class OwnArchive:
    """The archive of a room that this device writes.

    ``made`` counts its records, ``sent`` those that the provider has. ``given`` are the clients (URIs) that
    have the key; ``epoch`` is the one in which all of them were last seen in the group.
    """

    name: bytes
    key: bytes
    made: int = 0
    sent: int = 0
    given: list[str] = field(default_factory=list)
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownArchive:
    """An archive that this device can read and writes no more, or never did; it has at least ``records``."""

    name: bytes
    key: bytes
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRecord:
    """A sealed record on its way to the provider; see ``linearized.store.archive`` for the fields."""

    room_id: str
    archive: bytes
    number: int
    seq: int
    event_id: str
    tag: bytes
    expires_ts: int | None
    stub: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRelease:
    """That a record's content is to go."""

    archive: bytes
    tag: bytes
    release: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """What this device asked its user's others: the secret that the user carries, and the HPKE key pair (see
    ``openmls.HpkeKeyPair``) and request that the answer is encrypted and bound to.
    """

    secret: bytes
    keys: bytes
    request: bytes


@dataclass(slots=True, kw_only=True)
class ArchiveState:
    """All of it. ``enabled`` is the user's wish; ``full`` if the provider took no more; ``removed`` are
    archives that the provider is to forget.
    """

    enabled: bool = False
    full: bool = False
    own: dict[str, OwnArchive] = field(default_factory=dict)
    known: dict[str, list[KnownArchive]] = field(default_factory=dict)
    waiting: list[WaitingRecord] = field(default_factory=list)
    releases: list[WaitingRelease] = field(default_factory=list)
    removed: list[bytes] = field(default_factory=list)
    request: OpenRequest | None = None

    def keys(self, room_id: str) -> list[KnownArchive]:
        """Every archive of a room that this device has the key of, with what the provider has of each."""
        own = self.own.get(room_id)
        mine = [] if own is None else [KnownArchive(name=own.name, key=own.key, records=own.sent)]
        return [*self.known.get(room_id, ()), *mine]

    def rooms(self) -> list[str]:
        """Every room with an archive."""
        return list(dict.fromkeys([*self.known, *self.own]))

    def retire(self, room_id: str) -> None:
        """Write the room's archive no more, and still read it."""
        own = self.own.pop(room_id, None)
        if own is not None and own.made:
            kept = KnownArchive(name=own.name, key=own.key, records=own.made)
            self.known.setdefault(room_id, []).append(kept)

    def drop(self, room_id: str) -> None:
        """Forget the room's archives, and have the provider forget them."""
        names = [archive.name for archive in self.keys(room_id)]
        self.own.pop(room_id, None)
        self.known.pop(room_id, None)
        self.removed += names
        self.waiting = [record for record in self.waiting if record.archive not in names]
        self.releases = [release for release in self.releases if release.archive not in names]

    def confirm(self, room_id: str, name: bytes, number: int) -> None:
        """The provider has an archive's records up to ``number``."""
        self.waiting = [one for one in self.waiting if one.archive != name or one.number > number]
        own = self.own.get(room_id)
        if own is not None and own.name == name:
            own.sent = number

    def abandon(self, room_id: str, name: bytes, *, forgotten: bool) -> None:
        """Write an archive no more, nor bring what waits of it; ``forgotten`` if the provider has nothing of
        it any more.
        """
        lost = [one.number for one in self.waiting if one.archive == name]
        self.waiting = [one for one in self.waiting if one.archive != name]
        own = self.own.get(room_id)
        if own is not None and own.name == name:
            self.retire(room_id)
        known = [
            replace(one, records=min([one.records, *(number - 1 for number in lost)]))
            if one.name == name
            else one
            for one in self.known.pop(room_id, ())
        ]
        left = [one for one in known if one.records and not (forgotten and one.name == name)]
        if left:
            self.known[room_id] = left

    def stop(self) -> None:
        """The provider takes no more of any archive."""
        self.full = True
        for room_id, name in {(one.room_id, one.archive): None for one in self.waiting}:
            self.abandon(room_id, name, forgotten=False)
        for room_id in list(self.own):
            self.retire(room_id)

    def to_record(self) -> dict[str, Any]:
        """As a map of CBOR values."""
        return asdict(self)

    @classmethod
    def from_record(cls, value: dict[str, Any]) -> ArchiveState:
        """The inverse of ``to_record``; states from before there were archives have none.

        Raises:
            KeyError, TypeError, AttributeError: it is none.
        """
        if not value:
            return cls()
        request = value["request"]
        return cls(
            enabled=value["enabled"],
            full=value["full"],
            own={room_id: OwnArchive(**own) for room_id, own in value["own"].items()},
            known={
                room_id: [KnownArchive(**archive) for archive in several]
                for room_id, several in value["known"].items()
            },
            waiting=[WaitingRecord(**record) for record in value["waiting"]],
            releases=[WaitingRelease(**release) for release in value["releases"]],
            removed=list(value["removed"]),
            request=None if request is None else OpenRequest(**request),
        )
