"""Policy on membership as a whole (draft-ietf-mimi-room-policy, "Base Room policy component syntax")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from linearized.mimi.policy.common import MAX_ITEMS
from linearized.mimi.tls import MAX_URI_BYTES, Bool, Maybe, Struct, Text, Uint, Vector


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRoomPolicy(Struct):
    """Data and update of the ``base_room_policy`` component; an update replaces the data as a whole.

    ``max_clients`` bounds the group, ``max_users`` the participants who are not banned.
    """

    fixed_membership: Bool = False
    parent_dependant: Bool = False
    parent_room: Annotated[tuple[str, ...], Vector(Text("ascii", MAX_URI_BYTES), max_items=1)] = ()
    multi_device: Bool = True
    max_clients: Annotated[int | None, Maybe(Uint(4))] = None
    max_users: Annotated[int | None, Maybe(Uint(4))] = None
    pseudonyms_allowed: Bool = False
    persistent_room: Bool = True
    discoverable: Bool = False
    policy_component_ids: Annotated[tuple[int, ...], Vector(Uint(2), max_items=MAX_ITEMS)] = ()

    def __post_init__(self) -> None:
        # "If parent-dependent is true, the parent_room MUST be set with the room ID of the parent. Otherwise
        # the field is zero-length."
        if self.parent_dependant != bool(self.parent_room):
            raise ValueError("a parent room belongs to a parent-dependent room, and to no other")
