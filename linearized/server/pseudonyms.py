"""Our users' pseudonyms in minimal metadata rooms: one room for each (draft-ietf-mimi-protocol-06, "Minimal
metadata rooms").

A pseudonym is a user of this server with devices and key packages of its own, so that everything that other
providers send to it finds it as it finds anybody. Whose it is stands in the store and leaves this server in
no answer but to its owner.
"""

from __future__ import annotations

from linearized.server.http import HttpError
from linearized.server.node import Node


async def may_use(node: Node, user_id: str, room_id: str | None) -> bool:
    """Whether a user of ours may be brought to a room: anybody but a pseudonym to all of them, a pseudonym to
    the first alone that it is used for, which is this one from now on.
    """
    if node.store.pseudonym(user_id) is None:
        return True
    # Two rooms with one pseudonym would tell everybody in them, and their hubs, that it is one person.
    return room_id is not None and await node.store.bind_pseudonym(user_id, room_id)


async def require(node: Node, user_id: str, room_id: str) -> None:
    """As ``may_use``.

    Raises:
        HttpError: 403 ``M_FORBIDDEN``.
    """
    if not await may_use(node, user_id, room_id):
        raise HttpError(403, "M_FORBIDDEN", "This pseudonym is for another room")


def require_unused(node: Node, user_id: str) -> None:
    """Check that a pseudonym, if the user is one, may create a room.

    Raises:
        HttpError: 403 ``M_FORBIDDEN``.
    """
    row = node.store.pseudonym(user_id)
    if row is not None and row.room_id is not None:
        raise HttpError(403, "M_FORBIDDEN", "This pseudonym is for another room")
