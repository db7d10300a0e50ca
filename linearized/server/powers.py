"""Power levels read from the store, for what is no event: those are judged by ``linearized.protocol``."""

from __future__ import annotations

from collections.abc import Mapping

from linearized.protocol.canonical import JsonObject
from linearized.protocol.power_levels import (
    ACTION_DEFAULTS,
    CREATOR_LEVEL,
    NOTIFICATION_DEFAULT,
    STATE_DEFAULT,
    USERS_DEFAULT,
    is_level,
)
from linearized.server.histories import content_of
from linearized.store.base import Store


def may_redact_others(store: Store, room_id: str, user_id: str, *, seq: int) -> bool:
    """Whether a user's power level after entry ``seq`` is high enough to redact events of others."""
    levels = _levels(store, room_id, seq)
    needed = _level(levels or {}, "redact", ACTION_DEFAULTS["redact"])
    return _level_of(store, room_id, user_id, seq, levels) >= needed


def may_set_state(store: Store, room_id: str, user_id: str, event_type: str, *, seq: int) -> bool:
    """Whether a user's power level after entry ``seq`` is high enough to set state of a type."""
    levels = _levels(store, room_id, seq)
    content = levels or {}
    default, events = _level(content, "state_default", STATE_DEFAULT), content.get("events")
    needed = _level(events, event_type, default) if isinstance(events, dict) else default
    return _level_of(store, room_id, user_id, seq, levels) >= needed


def may_notify(store: Store, room_id: str, user_id: str, kind: str, *, seq: int) -> bool:
    """Whether a user's power level after entry ``seq`` is high enough for notifications of a kind."""
    levels = _levels(store, room_id, seq)
    kinds = (levels or {}).get("notifications")
    needed = _level(kinds, kind, NOTIFICATION_DEFAULT) if isinstance(kinds, dict) else NOTIFICATION_DEFAULT
    return _level_of(store, room_id, user_id, seq, levels) >= needed


def _levels(store: Store, room_id: str, seq: int) -> JsonObject | None:
    entry = store.state_entry(room_id, "m.room.power_levels", "", seq=seq)
    return content_of(entry) if entry is not None else None


def _level_of(store: Store, room_id: str, user_id: str, seq: int, levels: JsonObject | None) -> int:
    if levels is None:
        create = store.state_entry(room_id, "m.room.create", "", seq=seq)
        return CREATOR_LEVEL if create is not None and create.sender == user_id else USERS_DEFAULT
    users, default = levels.get("users"), _level(levels, "users_default", USERS_DEFAULT)
    return _level(users, user_id, default) if isinstance(users, dict) else default


def _level(levels: Mapping[str, object], name: str, default: int) -> int:
    value = levels.get(name)
    return value if is_level(value) else default
