"""How much of a room another server may see: what its users may (``linearized.protocol.visibility``).

A server with a joined user sees the room; one whose last user has left sees it up to that user's leaving; a
world-readable room is seen by everybody. For anybody else the room does not exist. Within that, messages that
none of the server's users could see come redacted; state does not, as whoever checks events against the rules
needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from linearized.protocol.canonical import canonical_json
from linearized.protocol.redaction import redact
from linearized.protocol.versions import get_version
from linearized.protocol.visibility import (
    ALWAYS_VISIBLE,
    VISIBILITY,
    Change,
    Run,
    in_runs,
    known_until,
    merged,
    visibility_of,
    visible_runs,
)
from linearized.server.histories import content_of, membership_changes, visibility_changes
from linearized.server.node import Node
from linearized.store.base import EntryRow, MembershipRow, RoomRow

PUBLIC = frozenset({"shared", "world_readable"})  # to whoever may know of an event at all


def visible_until(node: Node, row: RoomRow, server: str) -> int | None:
    """The ``seq`` of the last entry a server may see; None if it may see none."""
    members = node.store.members_of(row.room_id, server)
    if any(member.membership == "join" for member in members) or _world_readable(node, row):
        return row.head_seq
    known = (known_until(membership_changes(node.store, member)) for member in members)
    return max((until for until in known if until is not None), default=None)


def projected(node: Node, row: RoomRow, server: str, entries: Sequence[EntryRow]) -> list[bytes]:
    """The events of neighbouring entries, in log order, as a server may see them: stored, or redacted."""
    if not entries:
        return []
    visibility = visibility_changes(node.store, row.room_id, row.head_seq)
    if all(value in PUBLIC for _, value in visibility):
        return [entry.pdu for entry in entries]
    page = (entries[0].seq, entries[-1].seq)
    runs = _server_runs(node, visibility, node.store.members_of(row.room_id, server), page)
    version = get_version(row.version)
    return [
        entry.pdu
        if entry.state_key is not None or entry.type in ALWAYS_VISIBLE or in_runs(runs, entry.seq)
        else canonical_json(
            redact(orjson.loads(entry.pdu), version), code_point_order=version.code_point_order
        )
        for entry in entries
    ]


def _server_runs(
    node: Node, visibility: Sequence[Change], members: Iterable[MembershipRow], page: Run
) -> tuple[Run, ...]:
    """What any of a server's users may see, as far as it matters for a page."""
    runs: tuple[Run, ...] = ()
    # Those who are here first: usually the first of them has seen all of the page.
    for member in sorted(members, key=lambda member: member.membership != "join"):
        runs = merged((*runs, *visible_runs(visibility, membership_changes(node.store, member))))
        if any(first <= page[0] and page[1] <= last for first, last in runs):
            break
    # Nobody's membership is needed for what everybody may see.
    return runs or visible_runs(visibility, ())


def _world_readable(node: Node, row: RoomRow) -> bool:
    rule = node.store.state_entry(row.room_id, *VISIBILITY, seq=row.head_seq)
    return rule is not None and visibility_of(content_of(rule)) == "world_readable"
