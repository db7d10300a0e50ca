"""``POST createRoom``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from linearized.exceptions import EventFormatError, LinearizedError
from linearized.mimi.policy.choice import POLICY_CHOICE, chosen_policy
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_domain
from linearized.protocol.versions import DEFAULT_ROOM_VERSION, get_version
from linearized.room.submissions import LocalEvent
from linearized.server import pseudonyms
from linearized.server.clients.aliases import CANONICAL, check_own, keep
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import (
    bad_json,
    boolean,
    objects,
    optional_object,
    optional_text,
    text,
    texts,
)
from linearized.server.clients.membership import user_of
from linearized.server.clients.profiles import tell_room
from linearized.server.clients.public_rooms import MAX_PUBLISHED, too_many
from linearized.server.http import HttpError, Request, Response, json_response

MAX_INITIAL_STATE: Final = 100  # state events of one request; if large, the body's own bound comes first
MAX_INVITES: Final = 100  # users invited at once, each of which may need a request to another server

# (join rule, history visibility, guest access) by preset (Client-Server API, createRoom).
PRESETS: Final[Mapping[str, tuple[str, str, str]]] = {
    "private_chat": ("invite", "shared", "can_join"),
    "trusted_private_chat": ("invite", "shared", "can_join"),
    "public_chat": ("public", "shared", "forbidden"),
}
_TRUSTED: Final = "trusted_private_chat"
# "all invitees are given the same power level as the room creator".
_CREATOR_LEVEL: Final = 100
_MODERATOR_LEVEL: Final = 50
# Set by the create event, the creator's join and the invitations themselves.
_NOT_INITIAL: Final = frozenset({"m.room.create", "m.room.member"})
FAILED_INVITES: Final = "dev.linearized.failed_invites"  # user IDs with the reasons


async def create_room(context: Context, request: Request, caller: Caller) -> Response:
    """Create a room with this server as its hub, then send the invitations.

    Raises:
        HttpError: 400 ``M_UNSUPPORTED_ROOM_VERSION``, ``M_BAD_JSON`` or ``M_INVALID_PARAM``.
        Rejected: an initial event is not allowed; the room does not exist then.
    """
    body = await request.json()
    if user_domain(caller.user_id) != context.node.identity.name:
        raise HttpError(403, "M_FORBIDDEN", f"Only users of {context.node.identity.name} create rooms here")
    alias = _alias(context, body)
    public = optional_text(body, "visibility") == "public"
    if public and len(context.node.store.published()) >= MAX_PUBLISHED:
        raise too_many()
    pseudonyms.require_unused(context.node, caller.user_id)
    version = optional_text(body, "room_version") or DEFAULT_ROOM_VERSION
    try:
        get_version(version)
    except EventFormatError as error:
        raise HttpError(400, "M_UNSUPPORTED_ROOM_VERSION", str(error)) from error
    invites = [user_of({"user_id": user_id}) for user_id in texts(body, "invite", limit=MAX_INVITES)]
    creation_content = optional_object(body, "creation_content")
    if POLICY_CHOICE in body:
        creation_content = {**creation_content, POLICY_CHOICE: body[POLICY_CHOICE]}
    _check_choice(creation_content)
    direct = boolean(body, "is_direct")
    events = _initial_events(body, creator=caller.user_id, invites=invites)
    if alias is not None:
        content: JsonObject = {"alias": alias}
        events.append(LocalEvent(sender=caller.user_id, type=CANONICAL, state_key="", content=content))
    room_id = await context.node.rooms.create(
        creator=caller.user_id,
        version=version,
        creation_content=creation_content,
        initial=events,
    )
    await pseudonyms.require(context.node, caller.user_id, room_id)
    await tell_room(context, request, caller, room_id)
    if alias is not None:
        await keep(context, caller, alias, room_id)
    if public:
        await context.node.store.set_published(room_id, True, most=MAX_PUBLISHED)
    answer: JsonObject = {"room_id": room_id}
    failed: dict[str, str] = {}
    for target in dict.fromkeys(invites):
        try:
            await context.node.rooms.invite(room_id, sender=caller.user_id, target=target, direct=direct)
        except LinearizedError as error:
            # The room exists by now: an error answer would make the client create another one.
            failed[target] = str(error)
    if failed:
        answer[FAILED_INVITES] = failed
    return json_response(answer)


def _alias(context: Context, body: JsonObject) -> str | None:
    """The alias that the new room is to have.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM``, or ``M_ROOM_IN_USE``: "the room alias is already taken".
    """
    localpart = optional_text(body, "room_alias_name")
    if localpart is None:
        return None
    alias = check_own(context, f"#{localpart}:{context.node.identity.name}")
    if context.node.store.alias(alias) is not None:
        raise HttpError(400, "M_ROOM_IN_USE", "The room alias is taken")
    return alias


def _check_choice(creation_content: JsonObject) -> None:
    """A room's policy is part of its group, so it has to be known, and the room encrypted."""
    if POLICY_CHOICE not in creation_content:
        return
    try:
        chosen_policy(creation_content[POLICY_CHOICE])
    except ValueError as error:
        raise HttpError(400, "M_INVALID_PARAM", str(error)) from error
    if "encryption" not in creation_content:
        raise HttpError(400, "M_INVALID_PARAM", "Only an encrypted room has a policy")


def _initial_events(body: JsonObject, *, creator: str, invites: list[str]) -> list[LocalEvent]:
    """The events after the creator's join, in the order the specification gives."""
    preset = optional_text(body, "preset")
    if preset is None:
        preset = "public_chat" if optional_text(body, "visibility") == "public" else "private_chat"
    if preset not in PRESETS:
        raise HttpError(400, "M_INVALID_PARAM", f"Unknown preset {preset}")
    join_rule, visibility, guest_access = PRESETS[preset]
    trusted = invites if preset == _TRUSTED else []
    levels: JsonObject = {
        "users": {creator: _CREATOR_LEVEL, **dict.fromkeys(trusted, _CREATOR_LEVEL)},
        "users_default": 0,
        "events": {"m.room.power_levels": _CREATOR_LEVEL, "m.room.history_visibility": _CREATOR_LEVEL},
        "events_default": 0,
        "state_default": _MODERATOR_LEVEL,
        "ban": _MODERATOR_LEVEL,
        "kick": _MODERATOR_LEVEL,
        "redact": _MODERATOR_LEVEL,
        "invite": _MODERATOR_LEVEL,
        **optional_object(body, "power_level_content_override"),
    }
    state: dict[tuple[str, str], JsonObject] = {
        ("m.room.power_levels", ""): levels,
        ("m.room.join_rules", ""): {"join_rule": join_rule},
        ("m.room.history_visibility", ""): {"history_visibility": visibility},
        ("m.room.guest_access", ""): {"guest_access": guest_access},
    }
    for item in objects(body, "initial_state", limit=MAX_INITIAL_STATE):
        event_type, state_key = text(item, "type"), optional_text(item, "state_key") or ""
        if event_type in _NOT_INITIAL:
            raise bad_json(f"initial_state may not hold {event_type}")
        content = item.get("content")
        if not isinstance(content, dict):
            raise bad_json("initial_state: content must be an object")
        state[event_type, state_key] = content
    for key in ("name", "topic"):
        value = optional_text(body, key)
        if value is not None:
            state[f"m.room.{key}", ""] = {key: value}
    return [
        LocalEvent(sender=creator, type=event_type, state_key=state_key, content=content)
        for (event_type, state_key), content in state.items()
    ]
