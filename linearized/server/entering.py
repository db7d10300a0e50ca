"""Entering rooms through other servers: joining them, and asking to be invited (knocking).

What is in a room that a user may not know of, its servers say, whether we have a copy of it or not: so
nobody here finds out from us which rooms of other servers our users are in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from linearized.exceptions import InvalidInput, LinearizedError
from linearized.room.submissions import Reason, Rejected
from linearized.server import invited
from linearized.server.node import Node
from linearized.server.outbound import OutboundError
from linearized.server.participating import Participating
from linearized.store.base import Role

# Hubs asked because others named them, in one attempt to join: a room that has just moved again, and again.
MAX_NAMED: Final = 3


async def join(
    node: Node, participating: Participating, room_id: str, *, user_id: str, via: Sequence[str]
) -> None:
    """Join a room through the first server of ``via`` that lets us, whatever copy we have of it.

    Raises:
        InvalidInput, OutboundError: none did; what the first of them said.
    """
    failure: LinearizedError | None = None
    servers = list(via)
    for server in servers:
        try:
            await node.hub_policies.require(server)
            await _join_by(node, participating, room_id, user_id, server)
        except (InvalidInput, OutboundError) as error:  # the next one may let us
            failure = failure or error
            named = error.hub if isinstance(error, OutboundError) else None
            known = {*servers, node.identity.name}
            if named is not None and named not in known and len(servers) < len(via) + MAX_NAMED:
                servers.append(named)  # the room has moved there, says who had it
        else:
            return
    raise failure or Rejected(Reason.UNKNOWN_ROOM, "No server is known to join this room through")


async def _join_by(node: Node, participating: Participating, room_id: str, user_id: str, server: str) -> None:
    copy = node.store.room(room_id)
    if copy is None or not invited.has_copy(copy) or (copy.role, copy.hub) == (Role.PARTICIPANT, server):
        await participating.join(room_id, user_id, server)
        return
    # It is asked as if we had no copy; but what it says is nothing to what the room's hub has given us.
    await participating.ask_to_join(room_id, user_id, server)
    raise Rejected(Reason.FORBIDDEN, f"{server} is not this room's hub")


async def knock(node: Node, room_id: str, *, user_id: str, via: Sequence[str], reason: str | None) -> None:
    """Ask to be invited, through the first server of ``via`` that takes it, whatever copy we have of the
    room.

    Raises:
        InvalidInput, OutboundError: none did; what the first of them said.
    """
    failure: LinearizedError | None = None
    for server in via:
        try:
            await invited.knock(node, room_id, user_id, hub=server, reason=reason)
        except (InvalidInput, OutboundError) as error:  # the next one may take it
            failure = failure or error
        else:
            return
    raise failure or Rejected(Reason.UNKNOWN_ROOM, "No server is known to knock on this room at")
