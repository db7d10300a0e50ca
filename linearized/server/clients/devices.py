"""A user's devices: listing, naming and ending them (Client-Server API, Device Management)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.server import device_lists
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import optional_text
from linearized.server.clients.sessions import session_name
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.store.base import DeviceRow

MAX_DISPLAY_NAME: Final = 255


def _described(device: DeviceRow) -> JsonObject:
    named = {"display_name": device.display_name} if device.display_name is not None else {}
    return {"device_id": device.device_id, **named}


def _own(context: Context, request: Request, caller: Caller) -> DeviceRow:
    for device in context.node.store.devices(caller.user_id):
        if device.device_id == request.params["device_id"]:
            return device
    raise HttpError(404, "M_NOT_FOUND", "You have no such device")


async def listing(context: Context, request: Request, caller: Caller) -> Response:
    """``GET devices``."""
    del request
    rows = context.node.store.devices(caller.user_id)
    return json_response({"devices": [_described(device) for device in rows]})


async def get(context: Context, request: Request, caller: Caller) -> Response:
    """``GET devices/{deviceId}``."""
    return json_response(_described(_own(context, request, caller)))


async def rename(context: Context, request: Request, caller: Caller) -> Response:
    """``PUT devices/{deviceId}``: "If not given, the display name is unchanged"."""
    name = optional_text(await request.json(), "display_name", limit=MAX_DISPLAY_NAME)
    device = _own(context, request, caller)
    if name is not None:
        async with context.in_flight.alone(session_name(caller.user_id, device.device_id)):
            # Its tokens may have been renewed while we waited.
            await context.node.store.put_device(replace(_own(context, request, caller), display_name=name))
    return json_response({})


async def log_out(context: Context, caller: Caller, devices: Sequence[str]) -> None:
    """Delete devices of the caller, with their sessions, keys and messages, and tell who shares rooms."""
    for device_id in devices:
        await context.node.store.delete_device(caller.user_id, device_id)
    await device_lists.announce(context.node, caller.user_id, removed=list(devices))
    # A long poll or live tail of a device that is gone ends, also one as a pseudonym; its next is refused.
    pseudonyms = [row.user_id for row in context.node.store.pseudonyms_of(caller.user_id)]
    context.node.notifier.users_changed([caller.user_id, *pseudonyms])
