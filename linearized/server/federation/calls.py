"""What the signed endpoints share: authentication before anything else, and refusals they have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import orjson

from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_room_id
from linearized.server.acl import SERVER_ACL, allows
from linearized.server.buckets import Buckets
from linearized.server.exchange import wrong_server
from linearized.server.http import Handler, HttpError, Request, Response
from linearized.server.node import Node
from linearized.server.xmatrix import claimed
from linearized.store.base import Role, RoomRow

_WITHOUT_BODY = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated request: from ``origin``, with the parsed ``body`` (empty for a GET)."""

    node: Node
    request: Request
    origin: str
    body: JsonObject

    def param(self, name: str) -> str:
        """A decoded path parameter."""
        return self.request.params[name]

    def query(self, name: str) -> str:
        """A required query parameter.

        Raises:
            HttpError: 400 ``M_MISSING_PARAM``.
        """
        value = self.request.query_one(name)
        if value is None:
            raise HttpError(400, "M_MISSING_PARAM", f"The query parameter {name} is required")
        return value


SignedHandler = Callable[[Call], Awaitable[Response]]


def signed(node: Node, handler: SignedHandler, limit: Buckets | None = None) -> Handler:
    """Run ``handler`` for requests that prove their origin; others get 401 ``M_FORBIDDEN``.

    With ``limit``, a server that asks too often gets 429 ``M_LIMIT_EXCEEDED``.
    """

    async def handle(request: Request) -> Response:
        claim = await claimed(request, own_name=node.identity.name, keys=node.keys)
        # "All HTTP POST and PUT endpoints require the sending server to supply a (potentially empty) JSON
        # object".
        without = request.method in _WITHOUT_BODY
        body, plain = (None, None) if without else await request.checked_json()
        claim.prove(request, body, own_name=node.identity.name, plain=plain)
        origin = claim.origin
        await node.keys.confirm(origin)
        node.followers.contacted(origin)
        if limit is not None:
            limit.take(origin)
        return await handler(Call(node=node, request=request, origin=origin, body=body or {}))

    return handle


def hub_room(call: Call, room_id: object) -> RoomRow:
    """A room we are the hub of, and that lets the caller take part.

    Raises:
        HttpError: 404 ``M_NOT_FOUND`` for a room we do not know, 400 ``M_WRONG_SERVER`` for another hub's,
            403 ``M_FORBIDDEN`` if the room's server ACL denies the caller.
    """
    row = call.node.rooms.row(room_id) if isinstance(room_id, str) and is_room_id(room_id) else None
    if row is None:
        raise not_found()
    hub = row.hub if row.role is not Role.HUB else call.node.takeovers.successor(row.room_id)
    if hub is not None:
        raise wrong_server(hub)
    require_admitted(call.node, row, call.origin)
    return row


def require_admitted(node: Node, row: RoomRow, server: str) -> None:
    """Check a room's server ACL.

    Raises:
        HttpError: 403 ``M_FORBIDDEN``.
    """
    if not is_admitted(node, row, server):
        raise HttpError(403, "M_FORBIDDEN", "This server is denied by the room's server ACL")


def is_admitted(node: Node, row: RoomRow, server: str) -> bool:
    """Whether a room's server ACL lets a server take part."""
    rule = node.store.state_entry(row.room_id, SERVER_ACL, "", seq=row.head_seq)
    return rule is None or allows(orjson.loads(rule.pdu)["content"], server)


def not_found() -> HttpError:
    """The one answer for what does not exist and for what the caller may not know of."""
    return HttpError(404, "M_NOT_FOUND", "There is no such room or event")
