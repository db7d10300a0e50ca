"""Authorization rule 9: ``m.room.power_levels`` (draft, Auth Rules Algorithm)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from linearized.exceptions import AuthorizationError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.identifiers import is_user_id
from linearized.protocol.power_levels import is_level, power_levels_content, user_level
from linearized.protocol.state import POWER_LEVELS, StateMap
from linearized.protocol.versions import RoomVersion

FIELDS = ("users_default", "events_default", "state_default", "ban", "redact", "kick", "invite")


def check_power_levels(event: Event, state: StateMap, version: RoomVersion) -> None:
    """Check a power levels event against rule 9; rules 6 to 8 come before.

    Raises:
        AuthorizationError: the event is not allowed.
    """
    check_power_levels_shape(event, version)
    # 9.4. If there is no previous m.room.power_levels event in the room, allow the event.
    if POWER_LEVELS not in state:
        return
    level = user_level(state, event.sender)
    current, new = power_levels_content(state), event.content
    # 9.5. For the fields users_default, events_default, state_default, ban, redact, kick, and invite, check
    # if they were added, changed, or removed. For each found alteration:
    for field, before, after in _changes(_only(current, FIELDS), _only(new, FIELDS)):
        # 9.5.1. If the current value is higher than the sender's current power level, reject the event.
        if before is not None and before > level:
            raise AuthorizationError("9.5.1", f"{field} is above the sender's power level")
        # 9.5.2. If the new value is higher than the sender's current power level, reject the event.
        if after is not None and after > level:
            raise AuthorizationError("9.5.2", f"{field} would be above the sender's power level")
    # Matrix has notifications beside events, under the same rules.
    events = [
        change for field in version.level_maps for change in _changes(_map(current, field), _map(new, field))
    ]
    users = list(_changes(_map(current, "users"), _map(new, "users")))
    # 9.6. For each entry being changed in or removed from events:
    #    9.6.1. If the current value is higher than the sender's current power level, reject the event.
    for name, before, _ in events:
        if before is not None and before > level:
            raise AuthorizationError("9.6.1", f"the level for {name} is above the sender's")
    # 9.7. For each entry being added to or changed in events:
    #    9.7.1. If the new value is greater than the sender's current power level, reject the event.
    for name, _, after in events:
        if after is not None and after > level:
            raise AuthorizationError("9.7.1", f"the level for {name} would be above the sender's")
    # 9.8. For each entry being changed in or removed from users, other than the sender's own entry:
    #    9.8.1. If the current value is higher than the sender's current power level, reject the event.
    # Matrix room version 10 asks here for "greater than or equal to", which protects equals.
    highest = level - 1 if version.protects_equals else level
    for name, before, _ in users:
        if name != event.sender and before is not None and before > highest:
            raise AuthorizationError("9.8.1", f"the level of {name} is above the sender's")
    # 9.9. For each entry being added to or changed in users:
    #    9.9.1. If the new value is greater than the sender's current power level, reject the event.
    for name, _, after in users:
        if after is not None and after > level:
            raise AuthorizationError("9.9.1", f"the level of {name} would be above the sender's")
    # 9.10. Otherwise, allow the event.


def check_power_levels_shape(event: Event, version: RoomVersion) -> None:
    """Check that a power levels event's content can be read (rules 9.1 to 9.3, and the state key).

    Raises:
        AuthorizationError: a value is not an integer, a key not a user ID, or the state key not empty.
    """
    # Draft, m.room.power_levels: "The state_key MUST be an empty string."
    if event.state_key != "":
        raise AuthorizationError("9", "the state key is not empty")
    content = event.content
    # 9.1. If any of the fields users_default, events_default, state_default, ban, redact, kick, or invite in
    # content are present and not an integer, reject the event.
    for field in FIELDS:
        if field in content and not is_level(content[field]):
            raise AuthorizationError("9.1", f"{field} is not an integer")
    # 9.2. If events in content is present and not an object with values that are integers, reject the event.
    for field in version.level_maps:
        if not _is_level_map(content.get(field, {})):
            raise AuthorizationError("9.2", f"{field} is not an object of integers")
    # 9.3. If the users in content is present and not an object with valid user IDs as keys and integers as
    # values, reject the event.
    users = content.get("users", {})
    if not _is_level_map(users) or not all(is_user_id(user_id) for user_id in users):
        raise AuthorizationError("9.3", "users is not an object of integers by user ID")


def _is_level_map(value: object) -> bool:
    return isinstance(value, dict) and all(is_level(level) for level in value.values())


def _only(content: JsonObject, fields: tuple[str, ...]) -> dict[str, Any]:
    return {field: content[field] for field in fields if field in content}


def _map(content: JsonObject, field: str) -> dict[str, Any]:
    value = content.get(field)
    return value if isinstance(value, dict) else {}


def _changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[str, int | None, int | None]]:
    """Each entry added, changed or removed, with its level before and after (None: not there, or not an
    integer)."""
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield name, old if is_level(old) else None, new if is_level(new) else None
