"""What the hubs of our users' rooms say they keep, for clients that ask before they join."""

from __future__ import annotations

from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.http import HttpError, Request, Response
from linearized.server.providers.client import CONTENT_TYPE


async def metadata_policy(context: Context, request: Request, caller: Caller) -> Response:
    """``GET metadata_policy/{hub}``: a SignedMetadataPolicy, as the hub gave it.

    Raises:
        HttpError: 404 for a provider that is the hub of no room we know: we ask nobody for nothing.
    """
    del caller
    node, hub = context.node, request.params["hub"]
    if hub != node.identity.name and all(room.hub != hub for room in node.store.rooms()):
        raise HttpError(404, "M_NOT_FOUND", "No hub of a room known here")
    return Response(body=await node.hub_policies.signed(hub), content_type=CONTENT_TYPE)
