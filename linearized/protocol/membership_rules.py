"""Authorization rule 5: ``m.room.member`` (draft, Auth Rules Algorithm)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from linearized.exceptions import AuthorizationError
from linearized.protocol.events import Event
from linearized.protocol.identifiers import hub_user, is_user_id
from linearized.protocol.power_levels import level_to, user_level
from linearized.protocol.state import (
    AUTHORISED,
    StateMap,
    create_event,
    hub_of,
    join_rule,
    membership,
    parent_room,
)
from linearized.protocol.versions import RoomVersion


def check_membership(event: Event, state: StateMap, version: RoomVersion) -> None:
    """Check a membership event against rule 5.

    Raises:
        AuthorizationError: the event is not allowed.
    """
    target = check_member_shape(event)
    _RULES[event.content["membership"]](event, target, state, version)


def check_member_shape(event: Event) -> str:
    """Check what a membership event needs to have an effect at all (rules 5.1 and 5.7); give the user it is
    about.

    Raises:
        AuthorizationError: no user ID as state key, or no known membership.
    """
    # 5.1. If there is no state_key property, or no membership in content, reject the event.
    # "The state_key MUST be a non-empty string denotating the user ID the membership is affecting."
    if event.state_key is None or not is_user_id(event.state_key):
        raise AuthorizationError("5.1", "the state key is not a user ID")
    found = event.content.get("membership")
    if not isinstance(found, str):
        raise AuthorizationError("5.1", "there is no membership")
    # 5.7. Otherwise, the membership is unknown. reject the event.
    if found not in _RULES:
        raise AuthorizationError("5.7", "the membership is unknown")
    return event.state_key


def _check_join(event: Event, target: str, state: StateMap, version: RoomVersion) -> None:
    # 5.2.1. If the previous event is an m.room.create event and the state_key is the creator, allow the
    # event.
    create = create_event(state)
    if event.prev_events == (create.event_id,) and target == create.sender:
        return
    # 5.2.2. If sender does not match state_key, reject the event.
    if event.sender != target:
        raise AuthorizationError("5.2.2", "nobody can join for someone else")
    # 5.2.3. If the sender is banned, reject the event.
    current = membership(state, event.sender)
    if current == "ban":
        raise AuthorizationError("5.2.3", "the sender is banned")
    # 5.2.4. If the join_rule for m.room.join_rules is invite or knock, then allow the event if the current
    # membership state is invite or join.
    rule = join_rule(state)
    if rule in version.invite_join_rules and current in {"invite", "join"}:
        return
    if rule in version.authorised_join_rules and AUTHORISED in event.content:
        _check_authoriser(event.content[AUTHORISED], state)
        return
    # 5.2.5. If the join_rule for m.room.join_rules is public, allow the event.
    # 5.2.6. Otherwise, reject the event.
    if rule != "public":
        raise AuthorizationError("5.2.6", f"the join rule is {rule} and the sender is not invited")


def _check_authoriser(user_id: object, state: StateMap) -> None:
    # M2. Matrix room version 10, rule 4.3.5: "If the join_authorised_via_users_server key in content is not a
    # user with sufficient permission to invite other users, reject."
    if (
        not isinstance(user_id, str)
        or membership(state, user_id) != "join"
        or user_level(state, user_id) < level_to(state, "invite")
    ):
        raise AuthorizationError("M2", "the user who is said to let the sender in could not invite them")


def _check_invite(event: Event, target: str, state: StateMap, version: RoomVersion) -> None:
    # 5.3.1. If the sender's current membership state is not join, reject the event.
    _check_joined(event, state, "5.3.1")
    # 5.3.2. If the target user's (state_key) membership is join or ban, reject the event.
    if membership(state, target) in {"join", "ban"}:
        raise AuthorizationError("5.3.2", "the target is joined or banned")
    # 5.3.3. If the sender's power level is greater than or equal to the power level needed to send invites,
    # allow the event.
    # 5.3.4. Otherwise, reject the event.
    if user_level(state, event.sender) < level_to(state, "invite"):
        raise AuthorizationError("5.3.4", "the sender's power level does not suffice to invite")


def _check_leave(event: Event, target: str, state: StateMap, version: RoomVersion) -> None:
    # 5.4.1. If the sender matches the state_key, allow the event if and only if that user's current
    # membership state is knock, join, or invite.
    if event.sender == target:
        if membership(state, target) not in {"knock", "join", "invite"}:
            raise AuthorizationError("5.4.1", "the sender is not in the room, invited or knocking")
        return
    # L8. In a room that depends on a parent room the hub takes out who is not in that any more.
    if version.parent_rooms and parent_room(state) and event.sender == hub_user(hub_of(state)):
        if membership(state, target) not in {"knock", "join", "invite"}:
            raise AuthorizationError("L8", "the target is not in the room, invited or knocking")
        return
    # 5.4.2. If the sender's current membership state is not join, reject the event.
    _check_joined(event, state, "5.4.2")
    # 5.4.3. If the target user's (state_key) current membership state is ban, and the sender's power level is
    # less than the power level needed to ban other users, reject the event.
    level = user_level(state, event.sender)
    if membership(state, target) == "ban" and level < level_to(state, "ban"):
        raise AuthorizationError("5.4.3", "the sender's power level does not suffice to unban")
    # 5.4.4. If the sender's power level is greater than or equal to the power level needed to kick users, and
    # the target user's (state_key) power level is less than the sender's, allow the event.
    # 5.4.5. Otherwise, reject the event.
    if level < level_to(state, "kick") or user_level(state, target) >= level:
        raise AuthorizationError("5.4.5", "the sender's power level does not suffice to kick the target")


def _check_ban(event: Event, target: str, state: StateMap, version: RoomVersion) -> None:
    # 5.5.1. If the sender's current membership state is not join, reject the event.
    _check_joined(event, state, "5.5.1")
    # 5.5.2. If the sender's power level is greater than or equal to the power level needed to ban users, and
    # the target user's (state_key) power level is less than the sender's power level, allow the event.
    # 5.5.3. Otherwise, reject the event.
    level = user_level(state, event.sender)
    if level < level_to(state, "ban") or user_level(state, target) >= level:
        raise AuthorizationError("5.5.3", "the sender's power level does not suffice to ban the target")


def _check_knock(event: Event, target: str, state: StateMap, version: RoomVersion) -> None:
    # 5.6.1. If the join_rule for m.room.join_rules is anything other than knock, reject the event.
    if join_rule(state) not in version.knock_join_rules:
        raise AuthorizationError("5.6.1", "the join rule does not let users knock")
    # 5.6.2. If the sender does not match the state_key, reject the event.
    if event.sender != target:
        raise AuthorizationError("5.6.2", "nobody can knock for someone else")
    # 5.6.3. If the sender's current membership state is not ban or join, allow the event.
    # 5.6.4. Otherwise, reject the event.
    if membership(state, event.sender) in {"ban", "join"}:
        raise AuthorizationError("5.6.4", "the sender is banned or joined")


def _check_joined(event: Event, state: StateMap, rule: str) -> None:
    if membership(state, event.sender) != "join":
        raise AuthorizationError(rule, "the sender is not joined to the room")


_RULES: Mapping[str, Callable[[Event, str, StateMap, RoomVersion], None]] = MappingProxyType(
    {
        "join": _check_join,
        "invite": _check_invite,
        "leave": _check_leave,
        "ban": _check_ban,
        "knock": _check_knock,
    }
)
