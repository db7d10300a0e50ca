"""Policies, states and events for the tests of what a policy allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from linearized.mimi.policy.capabilities import Capability
from linearized.mimi.policy.presets import PRESETS
from linearized.mimi.policy.roles import Role, RoleData
from linearized.protocol.build import build_event
from linearized.protocol.canonical import JsonObject
from linearized.protocol.events import Event
from linearized.protocol.state import StateMap
from linearized.protocol.versions import get_version
from linearized.room.policy import RoomPolicy
from tests.room.support import ALICE, ANNA, BOB, CAROL, NOW, ROOM, identity

DORA = "@dora:d.example"
# The roles of the draft's cooperatively administered room, which most tests are about.
BANNED, USER, ADMIN, GOVERNOR, ENFORCER = 1, 2, 3, 4, 5
OPEN = PRESETS["open"].roles
EVERYBODY = {ALICE: GOVERNOR, ANNA: ADMIN, BOB: USER, CAROL: BANNED}


def policy(
    participants: Mapping[str, int] = EVERYBODY,
    *,
    roles: RoleData = OPEN,
    clients: Mapping[str, int] | None = None,
) -> RoomPolicy:
    """Everybody who is not banned has a client, unless said otherwise."""
    active = {user: 1 for user, index in participants.items() if index != BANNED}
    return RoomPolicy(roles=roles, participants=participants, clients=active if clients is None else clients)


def with_role(index: int, *added: Capability, without: frozenset[Capability] = frozenset()) -> RoleData:
    """The draft's cooperatively administered room with capabilities added to a role or taken from it."""
    return changed(index, role_capabilities=(*(set(OPEN.role(index).role_capabilities) - without), *added))


def changed(index: int, **fields: Any) -> RoleData:
    """The draft's cooperatively administered room with one role changed."""
    return RoleData(roles=tuple(_changed(role, index, fields) for role in OPEN.roles))


def _changed(role: Role, index: int, fields: Mapping[str, Any]) -> Role:
    return replace(role, **fields) if role.role_index == index else role


def event(sender: str, kind: str, content: JsonObject, state_key: str | None = "") -> Event:
    """An event of the room, whoever sent it."""
    return build_event(
        identity=identity(sender.partition(":")[2]),
        version=get_version("dev.linearized.1"),
        room_id=ROOM,
        type=kind,
        sender=sender,
        content=content,
        origin_server_ts=NOW,
        auth_events=[],
        prev_events=["$before"],
        state_key=state_key,
    )


def member_event(sender: str, target: str, membership: str) -> Event:
    return event(sender, "m.room.member", {"membership": membership}, target)


def state(**memberships: str) -> StateMap:
    """The state of a room: everybody is joined, but for those given by their local part."""
    users = {user[1:].partition(":")[0]: user for user in (ALICE, ANNA, BOB, CAROL, DORA)}
    found = {"carol": "ban", "dora": "leave", **memberships}
    return {
        ("m.room.member", user): member_event(user, user, found.get(name, "join"))
        for name, user in users.items()
    }
