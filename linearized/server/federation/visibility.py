"""How much of a room another server may see.

The draft leaves this open ("Describe. (when can a server see an event?)"). Here: a server with a joined user
sees the room; one whose last user has left sees it up to that user's leaving; a world-readable room is seen
by everybody. For anybody else the room does not exist. Where ``m.room.history_visibility`` is ``joined`` or
``invited``, messages sent while the server had no such user come redacted.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from linearized.protocol.canonical import JsonObject, canonical_json
from linearized.protocol.identifiers import user_domain
from linearized.protocol.redaction import redact
from linearized.protocol.versions import get_version
from linearized.server.node import Node
from linearized.store.base import EntryRow, MembershipRow, RoomRow

MEMBER = "m.room.member"
VISIBILITY = "m.room.history_visibility"
# Memberships of a server's users that show it a message, by history visibility; any other shows all to all.
SHOWN_TO = {"joined": frozenset({"join"}), "invited": frozenset({"join", "invite"})}
# "a client *always* has access to m.mls.commit events, even when hidden by history visibility" (draft,
# Updating Group State).
ALWAYS_SHOWN = frozenset({"m.mls.commit"})
MAX_STEPS = 8  # membership changes after leaving (ban, unban, invite …) we look behind to find a join


def visible_until(node: Node, row: RoomRow, server: str) -> int | None:
    """The ``seq`` of the last entry a server may see; None if it may see none."""
    members = [m for m in node.store.memberships(row.room_id) if user_domain(m.user_id) == server]
    if any(member.membership == "join" for member in members) or _world_readable(node, row):
        return row.head_seq
    return max((left for member in members if (left := _left_at(node, member)) is not None), default=None)


def _world_readable(node: Node, row: RoomRow) -> bool:
    rule = node.store.state_entry(row.room_id, VISIBILITY, "", seq=row.head_seq)
    return rule is not None and _content(rule).get("history_visibility") == "world_readable"


def _left_at(node: Node, member: MembershipRow) -> int | None:
    """The entry by which a user who once was joined ceased to be; None if they never were."""
    seq = member.seq
    for _ in range(MAX_STEPS):
        before = node.store.state_entry(member.room_id, MEMBER, member.user_id, seq=seq - 1)
        if before is None:
            return None
        if _content(before).get("membership") == "join":
            return seq
        seq = before.seq
    return None


def _content(entry: EntryRow) -> JsonObject:
    content: JsonObject = orjson.loads(entry.pdu)["content"]
    return content


def projected(node: Node, row: RoomRow, server: str, entries: Sequence[EntryRow]) -> list[bytes]:
    """The events of neighbouring entries, in log order, as a server may see them: stored, or redacted."""
    if not entries:
        return []
    view = _View(server)
    for before in node.store.state_at(row.room_id, seq=entries[0].seq - 1):
        view.follow(before)
    version = get_version(row.version)
    served: list[bytes] = []
    for entry in entries:
        view.follow(entry)
        if view.shows(entry):
            served.append(entry.pdu)
        else:
            served.append(canonical_json(redact(orjson.loads(entry.pdu), version)))
    return served


class _View:
    """The history visibility and one server's memberships, followed through the log."""

    def __init__(self, server: str) -> None:
        self._server = server
        # Matrix's default; the draft names none.
        self._visibility: object = "shared"
        self._memberships: dict[str, object] = {}

    def follow(self, entry: EntryRow) -> None:
        """Take a state entry into account."""
        if entry.type == VISIBILITY and entry.state_key == "":
            self._visibility = _content(entry).get("history_visibility")
        elif entry.type == MEMBER and entry.state_key and user_domain(entry.state_key) == self._server:
            self._memberships[entry.state_key] = _content(entry).get("membership")

    def shows(self, entry: EntryRow) -> bool:
        """Whether the content of an entry that was just followed is shown."""
        shown_to = SHOWN_TO.get(str(self._visibility))
        if shown_to is None or entry.state_key is not None or entry.type in ALWAYS_SHOWN:
            return True
        return any(membership in shown_to for membership in self._memberships.values())
