"""Power levels (draft, Calculating Power Levels; m.room.power_levels).

Stored ``m.room.power_levels`` events passed rule 9, so their values are integers; a value that is not (a
peer's log may hold anything) counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias, TypeGuard

from linearized.protocol.canonical import JsonObject
from linearized.protocol.state import POWER_LEVELS, StateMap, creator
from linearized.protocol.versions import RoomVersion

Action: TypeAlias = Literal["ban", "kick", "redact", "invite"]

CREATOR_LEVEL = 100
"""Draft: "if no power levels event is specified in the room then the room creator … has a default power level
of 100"."""

ACTION_DEFAULTS: Mapping[Action, int] = MappingProxyType({"ban": 50, "kick": 50, "redact": 50, "invite": 0})
USERS_DEFAULT = 0
EVENTS_DEFAULT = 0
STATE_DEFAULT = 50
NOTIFICATION_DEFAULT = 50


def is_level(value: object) -> TypeGuard[int]:
    """Whether ``value`` is an integer; JSON's true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def user_level(state: StateMap, user_id: str) -> int:
    """Give a user's power level.

    Raises:
        AuthorizationError: there are neither power levels nor a create event.
    """
    if POWER_LEVELS not in state:
        return CREATOR_LEVEL if user_id == creator(state) else USERS_DEFAULT
    content = power_levels_content(state)
    return _entry(content, "users", user_id, _level(content, "users_default", USERS_DEFAULT))


def level_to(state: StateMap, action: Action) -> int:
    """Give the power level needed to ban, kick, invite, or redact someone else's event."""
    return _level(power_levels_content(state), action, ACTION_DEFAULTS[action])


def level_to_send(
    state: StateMap,
    type: str,  # noqa: A002 - the wire's word
    is_state: bool,
    version: RoomVersion,
) -> int:
    """Give the power level needed to send an event of this type, as a state event or not."""
    if POWER_LEVELS not in state:
        return version.state_level_without_event if is_state else EVENTS_DEFAULT
    content = power_levels_content(state)
    if is_state:
        default = _level(content, "state_default", STATE_DEFAULT)
    else:
        default = _level(content, "events_default", EVENTS_DEFAULT)
    return _entry(content, "events", type, default)


def power_levels_content(state: StateMap) -> JsonObject:
    """Give the content of the current power levels event; empty when there is none."""
    event = state.get(POWER_LEVELS)
    return event.content if event is not None else {}


def _level(content: JsonObject, field: str, default: int) -> int:
    value = content.get(field)
    return value if is_level(value) else default


def _entry(content: JsonObject, field: str, name: str, default: int) -> int:
    entries = content.get(field)
    return _level(entries, name, default) if isinstance(entries, dict) else default
