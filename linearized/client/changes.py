"""What goes into a commit: who comes, goes or changes roles, and whatever has to be in the next one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import openmls

from linearized.client.app_data import new_app_data
from linearized.client.device import Change, MlsDevice
from linearized.client.pending import arriving_clients, leaving_leaves, list_changes
from linearized.mimi.participants import (
    FRANKING_AGENT,
    PARTICIPANT_LIST,
    ParticipantListUpdate,
    UserIndexRolePair,
    UserRolePair,
    touched_users,
)
from linearized.protocol.identifiers import user_uri

NO_ROLES: Mapping[str, int] = MappingProxyType({})
NO_USERS: Mapping[str, Sequence[bytes]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _OwnUpdate:
    component_id: int
    payload: bytes
    operation: str = "update"


def change_of(
    device: MlsDevice,
    room_id: str,
    *,
    clock: Callable[[], int],
    add: Mapping[str, Sequence[bytes]] = NO_USERS,
    roles: Mapping[str, int] = NO_ROLES,
    moved: Mapping[str, int] = NO_ROLES,
    remove: Sequence[str] = (),
    agent: bytes | None = None,
    hub_sender: tuple[bytes, bytes] | None = None,
    always: bool = False,
) -> Change:
    """A commit that adds, moves to other roles, removes, and removes whoever left; ``always`` even if
    there is none of that to do. ``agent`` and ``hub_sender`` are for a group that names another hub's.

    Args:
        clock: milliseconds since the Unix epoch, for the lifetimes of key packages.
    """

    def change(group: openmls.Group) -> openmls.CommitBundle | None:
        present = device.participants(room_id)
        entry_role, arrival_role = device.entry_role(room_id), device.arrival_role(room_id)
        # What is proposed is committed with it, and must not be in it twice.
        touched = {user for found in list_changes(group) for user in touched_users(found)}
        leaving = leaving_leaves(group)
        # A hub takes no commit that leaves in the group who is no longer in the room.
        out = {*remove, *device.record(room_id).gone} - {device.owner.user_id, *add}
        indices = (present.index_of(user) for user in map(user_uri, sorted(out)) if user not in touched)
        removed = tuple(index for index in indices if index is not None)
        added = tuple(
            UserRolePair(user=user_uri(user_id), role_index=roles.get(user_id, entry_role))
            for user_id in add
            if present.role_of(user_uri(user_id)) is None and user_uri(user_id) not in touched
        )
        # Who came by themselves, by an event and an external commit, is on the list from now on.
        owners = {owner.user_id for owner in device.members(room_id).values()}
        added += tuple(
            UserRolePair(user=user_uri(user_id), role_index=roles.get(user_id, arrival_role))
            for user_id in sorted(owners - out - add.keys())
            if present.role_of(user_uri(user_id)) is None and user_uri(user_id) not in touched
        )
        changed = tuple(
            UserIndexRolePair(user_index=index, role_index=role)
            for user_id, role in moved.items()
            if user_id not in out
            and user_uri(user_id) not in touched
            and present.role_of(user_uri(user_id)) not in (None, role)
            and (index := present.index_of(user_uri(user_id))) is not None
        )
        update = (
            ParticipantListUpdate(changed=changed, added=added, removed=removed)
            if changed or added or removed
            else None
        )
        leaves = [
            leaf
            for leaf, owner in device.members(room_id).items()
            if owner.user_id in out and leaf not in leaving
        ]
        members = {member.credential for member in group.members()} | arriving_clients(group)
        now = clock() // 1000
        packages = [
            package
            for several in add.values()
            for package in several
            # Someone else may have added the client while we were losing a race.
            if openmls.inspect_key_package(package, now=now).credential not in members
        ]
        new_agent = agent if device.needs_agent(room_id) else None
        senders = None
        if hub_sender is not None and device.needs_sender(room_id):
            senders = device.senders_with(room_id, hub_sender)
        renews = new_agent is not None or senders is not None
        if update is None and not renews and not packages and not leaves and not leaving and not always:
            return None
        return commit_with(group, update, new_agent, add=packages, remove=leaves, senders=senders)

    return change


def commit_with(
    group: openmls.Group,
    update: ParticipantListUpdate | None,
    agent: bytes | None,
    *,
    add: Sequence[bytes] = (),
    remove: Sequence[int] = (),
    senders: Sequence[tuple[bytes, bytes]] | None = None,
) -> openmls.CommitBundle:
    """Commit, with the values that our updates and the pending proposals lead to."""
    own = [] if update is None else [_OwnUpdate(PARTICIPANT_LIST, update.encode())]
    own += [] if agent is None else [_OwnUpdate(FRANKING_AGENT, agent)]
    values = new_app_data(group.app_data(), [*group.pending_app_data_updates(), *own])
    return group.commit(
        add=add,
        remove=remove,
        app_data_updates={update.component_id: update.payload for update in own},
        new_app_data=values,
        external_senders=senders,
    )
