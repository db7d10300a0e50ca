"""Aliases for other servers: what each stands for is told to everybody who can say who they are."""

from __future__ import annotations

from linearized.server.buckets import Buckets
from linearized.server.endpoints import ALIAS
from linearized.server.federation.calls import Call, signed
from linearized.server.http import Response, Route, json_response
from linearized.server.node import Node
from linearized.server.room_aliases import servers_of, unknown_alias


def routes(node: Node, limit: Buckets) -> list[Route]:
    """The one endpoint."""
    return [Route("GET", ALIAS, signed(node, alias, limit))]


async def alias(call: Call) -> Response:
    """``GET /_linearized/v1/aliases/{roomAlias}``: as the client API answers for an alias of this server.

    Raises:
        HttpError: 404 ``M_NOT_FOUND``.
    """
    row = call.node.store.alias(call.param("room_alias"))
    if row is None:
        raise unknown_alias()
    return json_response({"room_id": row.room_id, "servers": servers_of(call.node, row)})
