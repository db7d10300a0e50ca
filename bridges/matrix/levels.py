"""Power levels on their way across: the same levels, for the users as each side calls them.

Matrix has users the log does not know (the bot, people of other homeservers), and the log has the bridge's
own user. Each side keeps what only it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bridges.matrix.names import Names
from linearized.exceptions import IdentifierError
from linearized.protocol.identifiers import user_id_from_uri, user_uri

# A bot may need this to keep the room in step with its people; the room's own powers above it are kept.
BOT_LEVEL = 100

JsonObject = dict[str, Any]


def levels_to_room(
    content: Mapping[str, Any], *, names: Names, bot: str, creators: Iterable[str] = ()
) -> JsonObject:
    """The content of Matrix power levels as the log has it.

    ``bot``, the bridge's user at the provider, can do what the room's highest user can. ``creators`` are
    those of a room version in which they stand above all levels, which the log cannot say: they get the
    highest level there is. Old rooms have levels written as texts; the log takes integers only.
    """
    found = {name: _levels(value) for name, value in content.items()}
    users: JsonObject = {}
    for user, level in _users(found).items():
        known = _at_provider(names, user)
        if known is not None:
            users[known] = level
    highest = max([BOT_LEVEL, *(level for level in users.values() if isinstance(level, int))])
    users |= {user: highest for user in creators if names.is_bridged(user)}
    return {**found, "users": {**users, bot: highest}}


def levels_to_matrix(
    content: Mapping[str, Any],
    *,
    names: Names,
    bot: str,
    current: Mapping[str, Any],
    creators: Iterable[str] = (),
) -> JsonObject:
    """The content of the log's power levels as Matrix has it, where ``current`` is what stands now.

    ``creators`` as in ``levels_to_room``; room version 12 refuses power levels that name them.
    """
    kept = {user: level for user, level in _users(current).items() if _at_provider(names, user) is None}
    moved: JsonObject = {}
    for user, level in _users(content).items():
        if user == bot:
            continue
        try:
            moved[user if names.is_bridged(user) else names.ghost(user_uri(user))] = level
        except IdentifierError:  # no name of a user: it gives nobody any power
            continue
    above = set(creators)
    return {**content, "users": {user: lv for user, lv in {**moved, **kept}.items() if user not in above}}


def _at_provider(names: Names, user: str) -> str | None:
    """The user a Matrix user is in the log; ``None`` for the bot and for users of other homeservers."""
    if names.is_bridged(user):
        return user
    try:
        return user_id_from_uri(names.uri(user))
    except IdentifierError:
        return None


def _users(content: Mapping[str, Any]) -> JsonObject:
    users = content.get("users")
    return users if isinstance(users, dict) else {}


def _levels(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _levels(level) for name, level in value.items()}
    if isinstance(value, str) and value.strip().removeprefix("-").isdecimal():
        return int(value)
    return value
