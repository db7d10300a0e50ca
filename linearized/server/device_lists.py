"""Device list updates: told to the servers a user shares rooms with, and taken from theirs.

Draft, Device Info Publishing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson
import trio

from linearized.exceptions import InvalidInput
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_device_id, is_user_id, user_domain
from linearized.server.batches import has_place, queued_units
from linearized.server.device_objects import checked
from linearized.server.node import Node
from linearized.server.telemetry import get_log
from linearized.store.base import MembershipRow, NewToDevice, Store

UPDATE: Final = "m.device_list_update"
MAX_DEVICES: Final = 100  # of one user; the clients of one person are a handful
# Where a user's changed neighbours are noted for their syncs: to-device messages for a device of this name,
# which no device has. They are kept for whichever of the user's devices has not read them; the oldest go.
CHANGED: Final = "device lists"
MAX_NOTED: Final = 1_000  # for one user; a device that was away for more asks for what it needs
_MEMBER: Final = "m.room.member"

log = get_log(part="device_lists")


async def announce(
    node: Node, user_id: str, *, changed: Sequence[JsonObject] = (), removed: Sequence[str] = ()
) -> None:
    """Tell the servers a user of ours shares a room with that devices of theirs came, changed or went.

    A server that has taken nothing for so long that no more may wait for it is not told; it will ask for a
    device when it meets it.
    """
    unit: JsonObject = {
        "type": UPDATE,
        "sender": user_id,
        # The draft's fields of an EDU are type, sender and content, its example of this one has sender_id.
        "sender_id": user_id,
        "content": {"changed": list(changed), "removed": list(removed)},
    }
    await note_changed(node, user_id)
    for server in await linearized_servers(node, user_id):
        if not has_place(node.store, server, 1):
            log.warning("device_list_update_dropped", server=server)
            continue
        await node.store.put_to_device(queued_units(server, [unit]))
        node.followers.units_waiting(server)


async def linearized_servers(node: Node, user_id: str) -> list[str]:
    """The other Linearized Matrix servers with a user in a room of ``user_id``'s, in order."""
    found: set[str] = set()
    asked: set[tuple[str, str]] = set()
    for room in node.store.rooms_of(user_id):
        if room.membership != "join":
            continue
        await trio.lowlevel.checkpoint()  # a user may be in many large rooms
        for member in node.store.memberships(room.room_id):
            server = member.user_id.partition(":")[2]
            if member.membership != "join" or server in node.served_domains or server in found:
                continue
            if (room.room_id, server) not in asked:
                asked.add((room.room_id, server))
                if signs_events(node.store, member):
                    found.add(server)
    return sorted(found)


def signs_events(store: Store, member: MembershipRow) -> bool:
    """Whether a user came by Linearized Matrix; others' servers have no such endpoint."""
    entry = store.state_entry(member.room_id, _MEMBER, member.user_id, seq=member.seq)
    return entry is not None and "provenance" not in orjson.loads(entry.pdu)


async def receive(node: Node, unit: JsonObject, origin: str) -> None:
    """Take another server's update, for users that share a room with ours; anything else is dropped."""
    sender, content = unit.get("sender_id", unit.get("sender")), unit.get("content")
    if not is_user_id(sender) or user_domain(str(sender)) != origin or not isinstance(content, dict):
        log.info("update_dropped", origin=origin)
        return
    user_id = str(sender)
    if not _sharing(node, user_id):
        return
    known = set(node.store.device_objects(user_id))
    for item in _list(content.get("changed")):
        try:
            found = checked(item, user_id=user_id)
        except InvalidInput as error:
            log.info("device_refused", origin=origin, exception=type(error).__name__)
            continue
        known.add(found["device_id"])
        if len(known) <= MAX_DEVICES:
            await node.store.put_device_object(user_id, found["device_id"], orjson.dumps(found))
    removed = [item for item in _list(content.get("removed")) if is_device_id(item)]
    if removed:
        await node.store.delete_device_objects(user_id, [str(item) for item in removed])
    await note_changed(node, user_id)


async def note_changed(node: Node, user_id: str) -> None:
    """Let our users that share a room with ``user_id``, and that user, hear of the change."""
    watchers = _sharing(node, user_id)
    if user_domain(user_id) in node.served_domains:
        watchers.add(user_id)
    await node.store.put_to_device(
        [
            NewToDevice(user_id=watcher, device_id=CHANGED, type=UPDATE, sender=user_id, content=b"{}")
            for watcher in sorted(watchers)
        ]
    )
    for watcher in watchers:
        noted = node.store.to_device(watcher, CHANGED, after=0, limit=MAX_NOTED + 1)
        if len(noted) > MAX_NOTED:
            await node.store.delete_to_device(watcher, CHANGED, up_to=noted[-MAX_NOTED - 1].position)
    node.notifier.users_changed(watchers)


def changed_since(node: Node, user_id: str, *, after: int, until: int | None) -> tuple[list[str], int]:
    """The users whose devices changed, as far as ``user_id`` is to know, and the position that was reached.

    Args:
        after: the to-device position up to which the asking device has heard.
        until: no further than this; None for no limit.
    """
    rows = node.store.to_device(user_id, CHANGED, after=after, limit=MAX_NOTED)
    rows = [row for row in rows if until is None or row.position <= until]
    return sorted({row.sender for row in rows}), rows[-1].position if rows else after


def sharing_no_room(store: Store, user_id: str, others: Sequence[str]) -> list[str]:
    """Those of ``others`` that are in no room with ``user_id``."""
    mine = {row.room_id for row in store.rooms_of(user_id) if row.membership == "join"}
    return [
        other
        for other in others
        if not any(row.membership == "join" and row.room_id in mine for row in store.rooms_of(other))
    ]


def _sharing(node: Node, user_id: str) -> set[str]:
    """Our users in the rooms of a user."""
    return {
        member.user_id
        for room in node.store.rooms_of(user_id)
        if room.membership == "join"
        for domain in node.served_domains
        for member in node.store.members_of(room.room_id, domain)
        if member.membership == "join"
    }


def _list(value: object) -> list[object]:
    return value[:MAX_DEVICES] if isinstance(value, list) else []
