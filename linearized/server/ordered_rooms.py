"""The rooms that this server orders: out of the store, and back into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import structlog

from linearized.exceptions import StoreError
from linearized.mls import Mls, SignatureKeyPair
from linearized.protocol.signing import ServerIdentity
from linearized.protocol.state import StateMap, hub_of
from linearized.protocol.versions import RoomVersion
from linearized.room.certificates import Authorities, nobody_trusted
from linearized.room.grouping import NO_AGENTS
from linearized.room.parents import NO_PARENTS, Parents
from linearized.room.room import Room
from linearized.room.submissions import Accepted
from linearized.server.appends import append_of
from linearized.server.loading import restore_room
from linearized.server.telemetry import describe
from linearized.store.base import EntryRow, Reply, RoomRow, Store

log = structlog.get_logger("linearized.hub")

Appended: TypeAlias = Callable[[str, StateMap, Sequence[EntryRow]], None]
"""Hears of a room ID, the room's state, and the entries that led to it."""


class OrderedRooms:
    """See the module.

    Args:
        vouched: the domains of our bridges, whose users this server answers for without having keys of
            them.
        agents: our encoded FrankingAgentData by cipher suite.
        authorities: those trusted for certificates of each domain's users.
        parents: of rooms that others depend on.
        signer: what the hub proposes with to groups, as an external sender.
        appended: called after an append is durable.
    """

    def __init__(
        self,
        *,
        identity: ServerIdentity,
        store: Store,
        mls: Mls,
        signer: SignatureKeyPair,
        vouched: frozenset[str],
        appended: Appended,
        agents: Mapping[int, bytes] = NO_AGENTS,
        authorities: Authorities = nobody_trusted,
        parents: Parents = NO_PARENTS,
    ) -> None:
        self._identity = identity
        self._store = store
        self._mls = mls
        self._signer = signer
        self._vouched = vouched
        self._ours = vouched | {identity.name}
        self._appended = appended
        self._agents = agents
        self._authorities = authorities
        self._parents = parents

    @property
    def name(self) -> str:
        """This server."""
        return self._identity.name

    def new(self, room_id: str, version: RoomVersion) -> Room:
        """A room without entries; it is nowhere but in memory."""
        return Room(
            room_id=room_id,
            version=version,
            identity=self._identity,
            mls=self._mls,
            signer=self._signer,
            vouched_domains=self._vouched,
            agents=self._agents,
            authorities=self._authorities,
            parents=self._parents,
        )

    def row(self, room_id: str) -> RoomRow | None:
        """The record of a room, whoever orders it; None for one that is unknown."""
        return self._store.room(room_id)

    def load(self, room_id: str) -> Room:
        """The room as the store has it.

        Raises:
            StoreError: it has none.
        """
        row = self._store.room(room_id)
        if row is None:
            raise StoreError(f"room {room_id} vanished")
        return restore_room(
            self._store,
            row,
            identity=self._identity,
            mls=self._mls,
            signer=self._signer,
            vouched_domains=self._vouched,
            agents=self._agents,
            authorities=self._authorities,
            parents=self._parents,
        )

    async def append(
        self,
        room: Room,
        batch: Sequence[Accepted],
        replies: tuple[Reply, ...] = (),
        row: RoomRow | None = None,
    ) -> None:
        """Write what a batch of submissions became, in one transaction with the answers to remember.

        Args:
            row: the record of a room that begins with it.

        Raises:
            StoreError: nothing was written.
        """
        append = append_of(
            self._store,
            room.room_id,
            room.state,
            batch,
            own_name=self._identity.name,
            ours=self._ours,
            replies=replies,
            row=row,
        )
        await self._store.append(append)
        try:
            self._appended(room.room_id, room.state, append.entries)
        except Exception as error:  # noqa: BLE001 - it is stored; whoever was not woken sees it at the next
            log.error("not_announced", room_id=room.room_id, **describe(error))

    def remembered(self, replies: Sequence[Reply]) -> dict[tuple[str, str], str]:
        """The answers remembered under the scopes and keys of replies, one query for each scope."""
        keys: dict[str, list[str]] = {}
        for reply in replies:
            keys.setdefault(reply.scope, []).append(reply.key)
        return {
            (scope, key): value
            for scope, wanted in keys.items()
            for key, value in self._store.replies(scope, wanted).items()
        }

    def has_moved(self, room: Room) -> bool:
        """Whether another server orders a room now."""
        return hub_of(room.state) != self._identity.name
