"""Sessions: a device's access token, and for clients that ask for it a token to renew it with (Client-Server
API, Refreshing access tokens).

"The old refresh token remains valid until the new access token or refresh token is used" is kept in a simpler
form: it stays valid until the next renewal, so that a client which lost our answer asks again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.auth import token_hash
from linearized.server.clients.context import Context
from linearized.server.clients.fields import text
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.store.base import DeviceRow

TOKEN_BYTES: Final = 32  # 256 bits: nobody guesses one, so its plain SHA-256 is safe to keep
# A stolen access token is of use for as long as this; renewing one costs a write.
ACCESS_TOKEN_MS: Final = 60 * 60 * 1000


async def open_session(context: Context, device: DeviceRow, *, renewable: bool) -> JsonObject:
    """Store a device with a new access token; the tokens, as ``POST login`` answers them. What it had before
    is worth nothing any more.
    """
    token = context.node.ids(TOKEN_BYTES)
    device = replace(
        device,
        token_hash=token_hash(token),
        expires_ts=None,
        refresh_hash=None,
        spent_refresh_hash=None,
        spent_token_hash=None,
    )
    answer: JsonObject = {"access_token": token}
    if renewable:
        device, more = _renewable(context, device)
        answer |= more
    await context.node.store.put_device(device)
    return answer


async def refresh(context: Context, request: Request) -> Response:
    """``POST refresh``."""
    given = token_hash(text(await request.json(), "refresh_token"))
    async with context.in_flight.alone(_name(_owner(context, given))):
        device = _owner(context, given)  # it may have been logged out while we waited
        token = context.node.ids(TOKEN_BYTES)
        renewed, more = _renewable(
            context,
            replace(
                device,
                token_hash=token_hash(token),
                spent_refresh_hash=given,
                spent_token_hash=device.token_hash,
            ),
        )
        await context.node.store.put_device(renewed)
    return json_response({"access_token": token, **more})


def session_name(user_id: str, device_id: str) -> str:
    """What a change of a device's row is named by in ``Context.in_flight``."""
    return f"session {user_id} {device_id}"


def _name(device: DeviceRow) -> str:
    return session_name(device.user_id, device.device_id)


def _owner(context: Context, given: str) -> DeviceRow:
    device = context.node.store.device_by_refresh(given)
    if device is None:
        raise HttpError(401, "M_UNKNOWN_TOKEN", "Unknown refresh token", soft_logout=False)
    return device


def _renewable(context: Context, device: DeviceRow) -> tuple[DeviceRow, JsonObject]:
    """The device with a refresh token and an access token that expires, and what its client is told."""
    token = context.node.ids(TOKEN_BYTES)
    expires = context.node.clock() + ACCESS_TOKEN_MS
    row = replace(device, refresh_hash=token_hash(token), expires_ts=expires)
    return row, {"refresh_token": token, "expires_in_ms": ACCESS_TOKEN_MS}
