"""The oblivious relay (RFC 9458): passes on what our users sealed, and cannot read it.

To the hubs of the rooms a user is in and to nobody else, so that this is no open relay. What a gateway sees
of a request is its sealed body and our name: nothing of the client's comes along.
"""

from __future__ import annotations

from typing import Final

from linearized.mimi.ohttp import MAX_KEYS_BYTES, OVERHEAD_BYTES, REQUEST_TYPE, RESPONSE_TYPE
from linearized.server import assets
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.http import HttpError, Request, Response
from linearized.server.providers.client import CONTENT_TYPE
from linearized.server.providers.oblivious import MAX_REQUEST_BYTES

# A response is padded by an eighth at most; its fields and its seal take less than this.
_RESPONSE_EXTRA: Final = 1024 + OVERHEAD_BYTES


async def key_configs(context: Context, request: Request, caller: Caller) -> Response:
    """``GET ohttp/{gateway}/keys``: the gateway's SignedKeyConfigs, for the client to check."""
    gateway = _known_gateway(context, request, caller)
    body = await context.node.providers.gateway_keys(gateway, limit=MAX_KEYS_BYTES)
    return Response(body=body, content_type=CONTENT_TYPE, headers=(("cache-control", "no-store"),))


async def forward(context: Context, request: Request, caller: Caller) -> Response:
    """``POST ohttp/{gateway}``: an Encapsulated Request for the gateway's Encapsulated Response.

    Raises:
        HttpError: 404 for a gateway that is none of the caller's, 415 for another content type, 413, 429.
    """
    gateway = _known_gateway(context, request, caller)
    context.node.relay_limit.take(caller.user_id)
    if request.headers.get("content-type") != REQUEST_TYPE:
        raise HttpError(415, "M_BAD_JSON", f"The content type must be {REQUEST_TYPE}")
    sealed = await request.body(MAX_REQUEST_BYTES)
    largest = context.node.config.limits.max_media_bytes
    body = await context.node.providers.oblivious(
        gateway, sealed, limit=largest + largest // 8 + _RESPONSE_EXTRA
    )
    return Response(body=body, content_type=RESPONSE_TYPE, headers=(("cache-control", "no-store"),))


def _known_gateway(context: Context, request: Request, caller: Caller) -> str:
    gateway = request.params["gateway"]
    # We never relay to ourselves: whoever holds both ends learns both who asks and for what.
    if gateway not in assets.hubs_of(context.node, caller.user_id) - {context.node.identity.name}:
        raise HttpError(404, "M_NOT_FOUND", "No gateway of a room of yours")
    return gateway
