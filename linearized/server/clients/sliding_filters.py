"""Which of a user's rooms a list of sliding sync holds (MSC4186, Filters)."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from linearized.server.clients.account_data import TAGS
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.hierarchy import children_of
from linearized.server.clients.sliding_requests import Filters
from linearized.server.histories import content_of
from linearized.store.account_data import GLOBAL
from linearized.store.activity import ActiveRoom
from linearized.store.base import Store


def direct_rooms(store: Store, user_id: str) -> frozenset[str]:
    """The rooms that the user's clients say are for talking to one person."""
    content = store.account_datum(user_id, GLOBAL, "m.direct")
    people = orjson.loads(content) if content is not None else {}
    rooms = [room_id for each in people.values() if isinstance(each, list) for room_id in each]
    return frozenset(room_id for room_id in rooms if isinstance(room_id, str))


class Chooser:
    """Tries filters on a user's rooms for one answer; what they ask of a room is read once for all lists."""

    def __init__(self, context: Context, caller: Caller, direct: frozenset[str]) -> None:
        """``direct``: as ``direct_rooms`` gives them."""
        self._context = context
        self._caller = caller
        self._direct = direct
        self._tags: dict[str, frozenset[str]] = {}
        self._kinds: dict[str, tuple[str | None, bool]] = {}

    def chosen(self, found: Iterable[ActiveRoom], filters: Filters) -> list[ActiveRoom]:
        """The rooms that pass, in their order."""
        inside = self._inside(filters.spaces) if filters.spaces is not None else None
        return [
            each
            for each in found
            if self._membership_passes(each, filters)
            and (inside is None or each.row.room_id in inside)
            and self._tags_pass(each, filters)
            and self._kind_passes(each, filters)
        ]

    def _membership_passes(self, active: ActiveRoom, filters: Filters) -> bool:
        if filters.is_dm is not None and filters.is_dm != (active.row.room_id in self._direct):
            return False
        return filters.is_invite is None or filters.is_invite == (active.row.membership == "invite")

    def _inside(self, spaces: Iterable[str]) -> frozenset[str]:
        """The children of those of the spaces that the user is in: of others nothing is told."""
        store = self._context.node.store
        rooms: set[str] = set()
        for space in spaces:
            row = store.membership(space, self._caller.user_id)
            if row is not None and row.membership == "join":
                rooms |= {child.state_key or "" for child in children_of(self._context, space)}
        return frozenset(rooms)

    def _tags_pass(self, active: ActiveRoom, filters: Filters) -> bool:
        if filters.tags is None and not filters.not_tags:
            return True
        room_id = active.row.room_id
        if room_id not in self._tags:
            content = self._context.node.store.account_datum(self._caller.user_id, room_id, TAGS)
            self._tags[room_id] = frozenset(orjson.loads(content)["tags"] if content is not None else ())
        tags = self._tags[room_id]
        return (filters.tags is None or not tags.isdisjoint(filters.tags)) and tags.isdisjoint(
            filters.not_tags
        )

    def _kind_passes(self, active: ActiveRoom, filters: Filters) -> bool:
        if filters.is_encrypted is None and filters.room_types is None and not filters.not_room_types:
            return True
        room_id = active.row.room_id
        if room_id not in self._kinds:
            self._kinds[room_id] = self._kind_of(active)
        kind, encrypted = self._kinds[room_id]
        if filters.is_encrypted is not None and filters.is_encrypted != encrypted:
            return False
        return (filters.room_types is None or kind in filters.room_types) and (
            kind not in filters.not_room_types
        )

    def _kind_of(self, active: ActiveRoom) -> tuple[str | None, bool]:
        """A room's type, and whether it is encrypted, as far as our copy of it says."""
        store, room_id, seq = self._context.node.store, active.row.room_id, active.room.head_seq
        create = store.state_entry(room_id, "m.room.create", "", seq=seq)
        content = content_of(create) if create is not None else {}
        encryption = store.state_entry(room_id, "m.room.encryption", "", seq=seq)
        kind = content.get("type")
        return (
            kind if isinstance(kind, str) else None,
            encryption is not None or "encryption" in content,
        )
