"""Where our copy of a room stands among the handshakes that its hub vouches by."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from linearized.protocol.events import Event
from linearized.protocol.identifiers import user_domain
from linearized.protocol.state import StateMap
from linearized.protocol.versions import get_version
from linearized.room.admission import PROPOSAL
from linearized.room.seen_handshakes import said_by_seen_proposals
from linearized.room.seen_roles import SeenGroup
from linearized.room.standing import joined_users
from linearized.room.vouching import FOLLOWING, VouchWalk, named_handshake
from linearized.server.loading import event_of, state_of
from linearized.server.node import Node
from linearized.store.base import EntryRow, RoomRow

# Entries read at a time: whom proposals take out is nearly always one user.
_PAGE: Final = 20


def walk_at(node: Node, row: RoomRow, last: EntryRow | None, seen: SeenGroup) -> VouchWalk:
    """The walk along what our copy ends with: proposals, from which entries still to come may follow.

    Args:
        last: the copy's last entry.
        seen: what the last commit showed.
    """
    walk = VouchWalk(hides=lambda state: not _has_users(node, state))
    run = _run(node, row, last)
    if not run:
        return walk
    (seq, proposal), *behind = run
    state = state_of(node.store, row, seq - 1)
    if not isinstance(proposal.content.get("message"), str):
        proposal = replace(proposal, redacted=True)  # as it was when we took it

    walk.proposals(
        proposal,
        lambda: said_by_seen_proposals(
            proposal.content, sender=proposal.sender, before=seen.app_data, state=state
        ),
    )
    for _, event in behind:
        walk.event(event, state)
    return walk


def _run(node: Node, row: RoomRow, last: EntryRow | None) -> list[tuple[int, Event]]:
    """Proposals, and the entries behind them that name them, if the copy ends with those."""
    version = get_version(row.version)
    found: list[tuple[int, Event]] = []
    page = [last] if last is not None else []
    while page:
        for entry in page:
            if entry.type != PROPOSAL and entry.type not in FOLLOWING:
                return []
            event = event_of(entry, version)
            named = named_handshake(event)
            if named is None or (found and named != named_handshake(found[0][1])):
                return []
            found.append((entry.seq, event))
            if entry.type == PROPOSAL:
                return found[::-1]
        page = node.store.entries_before(row.room_id, before=page[-1].seq, limit=_PAGE)
    return []


def _has_users(node: Node, state: StateMap) -> bool:
    return any(user_domain(user_id) in node.served_domains for user_id in joined_users(state))
