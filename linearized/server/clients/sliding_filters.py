"""Which of a user's rooms a list of sliding sync holds (MSC4186, Filters)."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.account_data import TAGS
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.hierarchy import children_of
from linearized.server.clients.sliding_requests import Filters
from linearized.server.clients.sliding_rooms import Candidate
from linearized.store.account_data import GLOBAL
from linearized.store.base import Store


def direct_rooms(store: Store, user_id: str) -> frozenset[str]:
    """The rooms that the user's clients say are for talking to one person."""
    content = store.account_datum(user_id, GLOBAL, "m.direct")
    people = orjson.loads(content) if content is not None else {}
    rooms = [room_id for each in people.values() if isinstance(each, list) for room_id in each]
    return frozenset(room_id for room_id in rooms if isinstance(room_id, str))


def chosen(
    context: Context, caller: Caller, found: Iterable[Candidate], filters: Filters, direct: frozenset[str]
) -> list[Candidate]:
    """The rooms that pass the filters, in their order.

    Args:
        direct: as ``direct_rooms`` gives them.
    """
    store = context.node.store
    inside = _inside(context, caller, filters.spaces) if filters.spaces is not None else None
    return [
        each
        for each in found
        if _kind_passes(each, filters, direct)
        and (inside is None or each.row.room_id in inside)
        and _tags_pass(store, each, filters)
        and _create_passes(store, each, filters)
    ]


def _kind_passes(candidate: Candidate, filters: Filters, direct: frozenset[str]) -> bool:
    if filters.is_dm is not None and filters.is_dm != (candidate.row.room_id in direct):
        return False
    return filters.is_invite is None or filters.is_invite == (candidate.row.membership == "invite")


def _inside(context: Context, caller: Caller, spaces: Iterable[str]) -> frozenset[str]:
    """The children of those of the spaces that the user is in: of others nothing is told."""
    store = context.node.store
    rooms: set[str] = set()
    for space in spaces:
        row = store.membership(space, caller.user_id)
        if row is not None and row.membership == "join":
            rooms |= {child.state_key or "" for child in children_of(context, space)}
    return frozenset(rooms)


def _tags_pass(store: Store, candidate: Candidate, filters: Filters) -> bool:
    if filters.tags is None and not filters.not_tags:
        return True
    content = store.account_datum(candidate.row.user_id, candidate.row.room_id, TAGS)
    tags: JsonObject = orjson.loads(content)["tags"] if content is not None else {}
    wanted = filters.tags is None or any(tag in tags for tag in filters.tags)
    return wanted and not any(tag in tags for tag in filters.not_tags)


def _create_passes(store: Store, candidate: Candidate, filters: Filters) -> bool:
    if filters.is_encrypted is None and filters.room_types is None and not filters.not_room_types:
        return True
    room_id, seq = candidate.row.room_id, candidate.room.head_seq
    entry = store.state_entry(room_id, "m.room.create", "", seq=seq)
    create = orjson.loads(entry.pdu)["content"] if entry is not None else {}
    if filters.is_encrypted is not None:
        encryption = store.state_entry(room_id, "m.room.encryption", "", seq=seq)
        if filters.is_encrypted != (encryption is not None or "encryption" in create):
            return False
    wanted = filters.room_types is None or create.get("type") in filters.room_types
    return wanted and create.get("type") not in filters.not_room_types
