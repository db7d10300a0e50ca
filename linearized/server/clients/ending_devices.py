"""Ending devices one does not hold in the hand, with the account's password (Client-Server API,
User-Interactive Authentication).
"""

from __future__ import annotations

from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.accounts import MAX_DEVICES, PASSWORD, named_user, require_password
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.devices import log_out
from linearized.server.clients.fields import optional_object, optional_text, text, texts
from linearized.server.http import HttpError, Request, Response, json_response

SESSION_BYTES: Final = 12  # names an attempt to the client; nothing is kept of it here


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
        await _require_owner(context, request, caller, body)
    own = {device.device_id for device in context.node.store.devices(caller.user_id)}
    devices = [device_id for device_id in dict.fromkeys(named) if device_id in own]
    if devices:
        await log_out(context, caller, devices)


async def _require_owner(context: Context, request: Request, caller: Caller, body: JsonObject) -> None:
    """Check ``auth``. Everything is in the one request, so no session is remembered.

    Raises:
        HttpError: 401 with the flows, as the client is to try with its user's password.
    """
    auth = optional_object(body, "auth")
    session = optional_text(auth, "session") or context.node.ids(SESSION_BYTES)
    flows = {"flows": [{"stages": [PASSWORD]}], "params": {}, "session": session}
    if not auth:
        raise HttpError(401, "M_FORBIDDEN", "The password of the account is needed", **flows)
    if text(auth, "type") != PASSWORD:
        raise HttpError(401, "M_UNRECOGNIZED", "There is no such way to authenticate", **flows)
    if named_user(context, auth) != caller.user_id:
        raise HttpError(401, "M_FORBIDDEN", "That is another account", **flows)
    try:
        await require_password(context, request, caller.user_id, text(auth, "password"))
    except HttpError as error:
        if error.errcode != "M_FORBIDDEN":
            raise
        raise HttpError(401, error.errcode, error.error, **flows) from error
