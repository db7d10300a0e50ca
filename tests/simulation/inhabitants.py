"""Who could read what, worked out from a log alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import openmls

from linearized.protocol.events import Event
from linearized.protocol.versions import get_version
from linearized.room.admission import COMMIT, ENCRYPTED
from linearized.room.credentials import client_of
from linearized.room_check_group import GroupWalk
from linearized.server.loading import event_of
from linearized.server.mls import OpenMls
from linearized.store.base import EntryRow

MEMBERSHIP = "m.room.member"


def inhabited(
    room_id: str, entries: Iterable[EntryRow], *, version: str, clock: Callable[[], int]
) -> dict[str, dict[str, str]]:
    """A log walked from its first entry on: for every encrypted message, by event ID, the devices that were
    in the group and belonged to users that were joined, with their users.
    """
    walk = GroupWalk(room_id, OpenMls(clock))
    state: dict[tuple[str, str], Event] = {}
    leaves: dict[str, str] = {}
    found: dict[str, dict[str, str]] = {}
    for entry in entries:
        event = event_of(entry, get_version(version))
        walk.step(event, entry.epoch, state)
        if event.state_key is not None:
            state[event.type, event.state_key] = event
        if event.type == COMMIT:
            row = walk.row()
            assert row is not None
            group = openmls.PublicGroup.observe(
                group_info=row.group_info, ratchet_tree=row.ratchet_tree, now=clock() // 1000
            )
            leaves = {
                member.identity.decode(): client_of(member.credential).user_id for member in group.members()
            }
        elif event.type == ENCRYPTED:
            found[event.event_id] = {
                uri: user_id
                for uri, user_id in leaves.items()
                if state[MEMBERSHIP, user_id].content["membership"] == "join"
            }
    return found
