"""Who may do what in a Matrix room, from its state (Matrix v1.16, ``m.room.power_levels``, and room version
12, in which creators stand above all levels).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CREATE, POWER_LEVELS = "m.room.create", "m.room.power_levels"
# "If the level isn't specified, it defaults to 50" of ``state_default``, ``kick`` and ``ban``; to 0 of
# ``invite``. Without the event, the creator has 100 and everybody else 0, and state needs nothing.
_STATE_DEFAULT = 50
_CREATOR = 100
_DEFAULTS = {"invite": 0, "kick": 50, "ban": 50, "redact": 50}
# The first room version in which creators stand above all levels.
_CREATORS_ABOVE = 12
# Above every level that can be written down.
ABOVE_ALL = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomPower:
    """A Matrix room's permissions; ``content`` is that of its power levels, ``None`` if it has none."""

    creators: frozenset[str]
    creators_above: bool
    content: Mapping[str, Any] | None

    @classmethod
    def of(cls, state: Iterable[Mapping[str, Any]]) -> RoomPower:
        """From the room's state events."""
        creators: set[str] = set()
        above, levels = False, None
        for event in state:
            content = event.get("content")
            if not isinstance(content, dict) or event.get("state_key") != "":
                continue
            if event.get("type") == CREATE:
                creators.add(str(event.get("sender")))
                version = content.get("room_version")
                number = int(version) if isinstance(version, str) and version.isdecimal() else 0
                above = number >= _CREATORS_ABOVE
                more = content.get("additional_creators")
                if above and isinstance(more, list):
                    creators.update(user for user in more if isinstance(user, str))
            elif event.get("type") == POWER_LEVELS:
                levels = content
        return cls(creators=frozenset(creators), creators_above=above, content=levels)

    def level(self, user_id: str) -> int:
        """A user's power level."""
        if user_id in self.creators and self.creators_above:
            return ABOVE_ALL
        if self.content is None:
            return _CREATOR if user_id in self.creators else 0
        users = self.content.get("users")
        own = users.get(user_id) if isinstance(users, dict) else None
        return _level(own, _level(self.content.get("users_default"), 0))

    def given(self, user_id: str) -> int:
        """The highest level that a user can give somebody else: their own, as far as it can be written."""
        return min(self.level(user_id), max([_CREATOR, *_levels(self.content)]))

    def may(self, user_id: str, action: str) -> bool:
        """Whether the user may ``invite``, ``kick``, ``ban`` or ``redact``."""
        needed = _level((self.content or {}).get(action), _DEFAULTS[action])
        return self.level(user_id) >= needed

    def may_set(self, user_id: str, event_type: str) -> bool:
        """Whether the user may set state of this type."""
        if self.content is None:
            return self.level(user_id) >= 0
        events = self.content.get("events")
        own = events.get(event_type) if isinstance(events, dict) else None
        return self.level(user_id) >= _level(own, _level(self.content.get("state_default"), _STATE_DEFAULT))

    def may_bridge(self, user_id: str) -> bool:
        """Whether the user decides about the room as a whole: whether it is bridged, for instance.

        That gives the room's history to a provider, so it takes the power to change who has power; without
        power levels, to be the creator.
        """
        if self.content is None:
            return user_id in self.creators
        return self.may_set(user_id, POWER_LEVELS)


def _levels(content: Mapping[str, Any] | None) -> list[int]:
    users = (content or {}).get("users")
    return [_level(value, 0) for value in users.values()] if isinstance(users, dict) else []


def _level(value: object, default: int) -> int:
    """A level; old rooms have texts."""
    if isinstance(value, bool):
        return default
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.strip().removeprefix("-").isdecimal():
        return int(value)
    return default
