"""The content of a room's state, as each side has it: names of people, rooms, messages and files differ."""

from __future__ import annotations

from collections.abc import Callable

from bridges.matrix.attachments import is_mxc
from bridges.matrix.content import JsonObject, NotBridged
from bridges.matrix.database import Database
from bridges.matrix.importer import interoperable
from bridges.matrix.levels import levels_to_matrix, levels_to_room
from bridges.matrix.links import RoomLinks
from bridges.matrix.media import MediaCopier
from bridges.matrix.message_map import Messages
from bridges.matrix.names import Names
from bridges.matrix.power import POWER_LEVELS, RoomPower

AVATAR, JOIN_RULES, PINNED = "m.room.avatar", "m.room.join_rules", "m.room.pinned_events"
# State that means the same on both sides. Everything else a homeserver keeps in its state is its own affair.
SHARED = (
    "m.room.name",
    "m.room.topic",
    AVATAR,
    POWER_LEVELS,
    JOIN_RULES,
    "m.room.history_visibility",
    "m.room.guest_access",
    PINNED,
)
# What a rule becomes when none of the rooms it names is bridged: the stricter one, which lets in nobody
# whom the other side would not.
_WITHOUT_ROOMS = {"restricted": "invite", "knock_restricted": "knock"}


class Translation:
    """Translates between a homeserver and a provider's room."""

    def __init__(self, *, names: Names, bot: str, media: MediaCopier, database: Database) -> None:
        self._names = names
        self._bot = bot
        self._media = media
        self._links = RoomLinks(database)
        self._messages = Messages(database)

    async def to_room(self, kind: str, content: JsonObject, power: RoomPower) -> JsonObject:
        """Matrix content as the log has it; ``power`` is that of the Matrix room.

        Raises:
            NotBridged: the log cannot have it.
            ApiError: a picture cannot be had.
        """
        content = interoperable(content)
        if kind == POWER_LEVELS:
            creators = power.creators if power.creators_above else ()
            return levels_to_room(content, names=self._names, bot=self._bot, creators=creators)
        if kind == AVATAR and "url" in content:
            return {"url": await self._media.plain_to_provider(_picture(content))}
        if kind == JOIN_RULES:
            return _join_rules(content, self._room_of)
        if kind == PINNED:
            return _pinned(content, self._log_event)
        return content

    async def to_matrix(
        self, kind: str, content: JsonObject, current: JsonObject, power: RoomPower
    ) -> JsonObject:
        """The log's content as Matrix has it; ``current`` is what stands there now.

        Raises:
            NotBridged: Matrix cannot have it.
            ApiError, UntrustedAnswer: a picture cannot be had.
        """
        if kind == POWER_LEVELS:
            creators = power.creators if power.creators_above else ()
            return levels_to_matrix(
                content, names=self._names, bot=self._bot, current=current, creators=creators
            )
        if kind == AVATAR and "url" in content:
            return {"url": await self._media.plain_to_matrix(_picture(content))}
        if kind == JOIN_RULES:
            return _join_rules(content, self._matrix_room_of)
        if kind == PINNED:
            return _pinned(content, self._matrix_event)
        return content

    def _room_of(self, matrix_room_id: str) -> str | None:
        link = self._links.of_matrix(matrix_room_id)
        return None if link is None else link.room_id

    def _matrix_room_of(self, room_id: str) -> str | None:
        link = self._links.of_room(room_id)
        return None if link is None else link.matrix_room_id

    def _log_event(self, event_id: str) -> str | None:
        known = self._messages.by_matrix(event_id)
        return None if known is None else known.log_event_id

    def _matrix_event(self, event_id: str) -> str | None:
        known = self._messages.by_log(event_id)
        return None if known is None else known.matrix_event_id


def _picture(content: JsonObject) -> str:
    url = content["url"]
    if not isinstance(url, str) or not is_mxc(url):
        raise NotBridged("the picture is no file of a server")
    return url


def _join_rules(content: JsonObject, room: Callable[[str], str | None]) -> JsonObject:
    """Join rules whose ``allow`` names the rooms of the other side."""
    rule = content.get("join_rule")
    if rule not in _WITHOUT_ROOMS:
        return {"join_rule": rule}
    conditions = content.get("allow")
    allowed = []
    for condition in conditions if isinstance(conditions, list) else []:
        known = room(str(condition.get("room_id"))) if isinstance(condition, dict) else None
        if known is not None:
            allowed.append({"type": "m.room_membership", "room_id": known})
    return {"join_rule": rule, "allow": allowed} if allowed else {"join_rule": _WITHOUT_ROOMS[rule]}


def _pinned(content: JsonObject, event: Callable[[str], str | None]) -> JsonObject:
    pinned = content.get("pinned")
    found = [event(one) for one in pinned if isinstance(one, str)] if isinstance(pinned, list) else []
    return {"pinned": [one for one in found if one is not None]}
