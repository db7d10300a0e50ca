"""Ending devices one does not hold in the hand, with the account's password (Client-Server API,
User-Interactive Authentication).
"""

from __future__ import annotations

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.accounts import MAX_DEVICES
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.devices import log_out
from linearized.server.clients.fields import texts
from linearized.server.clients.interactive import require_owner
from linearized.server.http import Request, Response, json_response


async def delete(context: Context, request: Request, caller: Caller) -> Response:
    """``DELETE devices/{deviceId}``; one that is not there is gone already."""
    await _end(context, request, caller, [request.params["device_id"]], await request.json())
    return json_response({})


async def delete_many(context: Context, request: Request, caller: Caller) -> Response:
    """``POST delete_devices``."""
    body = await request.json()
    await _end(context, request, caller, texts(body, "devices", limit=MAX_DEVICES), body)
    return json_response({})


async def _end(
    context: Context, request: Request, caller: Caller, named: list[str], body: JsonObject
) -> None:
    # "appservices … can delete devices without user-interactive authentication".
    if caller.bridge is None:
        await require_owner(context, request, caller, body)
    own = {device.device_id for device in context.node.store.devices(caller.user_id)}
    devices = [device_id for device_id in dict.fromkeys(named) if device_id in own]
    if devices:
        await log_out(context, caller, devices)
