"""Accounts: logging in and out, registration by bridges, and who one is."""

from __future__ import annotations

import re
from typing import Final

import trio

from linearized.config import BridgeConfig
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import is_device_id, parse_user_id
from linearized.server.buckets import address_names
from linearized.server.clients.auth import (
    Caller,
    bearer_token,
    bridge_by_token,
    require_bridged,
    token_hash,
)
from linearized.server.clients.context import Context
from linearized.server.clients.devices import MAX_DISPLAY_NAME, log_out
from linearized.server.clients.fields import boolean, invalid, optional_text, required_object, text
from linearized.server.clients.passwords import MAX_PASSWORD, SALT_BYTES, check_password, hash_password
from linearized.server.clients.sessions import open_session, session_name
from linearized.server.clients.signing_on import OPENID, by_openid
from linearized.server.http import HttpError, Request, Response, json_response
from linearized.store.base import DeviceRow, UserRow

PASSWORD: Final = "m.login.password"  # noqa: S105 - the name of a login type
BRIDGE: Final = "m.login.application_service"
TOKEN: Final = "m.login.token"  # noqa: S105 - the name of a login type
DEVICE_ID_BYTES: Final = 9
MAX_DEVICES: Final = 100  # of one account, each with key packages and messages of its own
# "MUST only contain a-z, 0-9, ., _, =, -, / and +" (Appendices, User Identifiers): strict in what we create.
_LOCALPART: Final = re.compile(r"[a-z0-9._=/+-]{1,200}")
_FORBIDDEN: Final = "Unknown user or wrong password"


async def login_types(context: Context, request: Request) -> Response:
    """``GET login``."""
    del request
    kinds = [PASSWORD, BRIDGE, *([OPENID] if context.node.config.sign_on.homeservers else [])]
    flows: list[JsonObject] = [{"type": kind} for kind in kinds]
    return json_response({"flows": [*flows, {"type": TOKEN, "get_login_token": True}]})


async def login(context: Context, request: Request) -> Response:
    """``POST login`` with a password, a homeserver's token, one that another device asked for, or by
    a bridge for one of its users. It makes or takes over a device.
    """
    body = await request.json()
    kind = text(body, "type")
    if kind == PASSWORD:
        user_id = await _by_password(context, request, body)
    elif kind == BRIDGE:
        user_id = await _by_bridge(context, request, body)
    elif kind == TOKEN:
        user_id = _by_token(context, request, body)
    elif kind == OPENID:
        user_id = await by_openid(context, request, body)
    else:
        raise HttpError(400, "M_UNKNOWN", f"Unknown login type {kind}")
    return json_response(await _new_session(context, user_id, body))


def _identified(body: JsonObject) -> str:
    """The user a login is for: ``identifier``, or ``user`` as clients before it existed send it."""
    if "identifier" not in body:
        return text(body, "user")
    identifier = required_object(body, "identifier")
    if text(identifier, "type") != "m.id.user":
        raise HttpError(400, "M_UNKNOWN", "Only m.id.user identifies users here")
    return text(identifier, "user")


def _full_user_id(user: str, server_name: str) -> str:
    """A user ID from a full one or a localpart ("either the fully qualified Matrix user ID, or just the
    localpart").
    """
    if not user.startswith("@"):
        user = f"@{user}:{server_name}"
    parse_user_id(user)
    return user


async def _by_password(context: Context, request: Request, body: JsonObject) -> str:
    user_id = named_user(context, body)
    await require_password(context, request, user_id, text(body, "password"))
    return user_id


def named_user(context: Context, body: JsonObject) -> str:
    """The user ID that a login names."""
    return _full_user_id(_identified(body), context.node.identity.name)


async def require_password(context: Context, request: Request, user_id: str, password: str) -> None:
    """Check a password.

    Raises:
        HttpError: 403 ``M_FORBIDDEN`` if it is wrong, or there is no such user; 429 after too many attempts.
    """
    if len(password) > MAX_PASSWORD:
        raise HttpError(403, "M_FORBIDDEN", _FORBIDDEN)
    # Per address and per account, so that neither one attacker nor many wear it out.
    context.attempts.take(*address_names(request), f"user {user_id}")
    user = context.node.store.user(user_id)
    stored = user.password_hash if user is not None else None

    def check() -> bool:
        if stored is None:
            # As much work as a wrong password: the time an answer takes must not tell which accounts exist.
            hash_password(password, salt=bytes(SALT_BYTES))
            return False
        return check_password(password, stored)

    if not await trio.to_thread.run_sync(check, limiter=context.hashers):
        raise HttpError(403, "M_FORBIDDEN", _FORBIDDEN)


def _by_token(context: Context, request: Request, body: JsonObject) -> str:
    """The user whose device asked for a token."""
    context.attempts.take(*address_names(request))
    user_id = context.login_tokens.spend(token_hash(text(body, "token")))
    if user_id is None:
        raise HttpError(403, "M_FORBIDDEN", "The login token is unknown, was used, or has expired")
    return user_id


async def _by_bridge(context: Context, request: Request, body: JsonObject) -> str:
    bridge = _bridge_of(context, request)
    user_id = _full_user_id(_identified(body), context.node.identity.name)
    require_bridged(bridge, user_id)
    await _ensure_user(context, user_id)
    return user_id


def _bridge_of(context: Context, request: Request) -> BridgeConfig:
    bridge = bridge_by_token(context, bearer_token(request))
    if bridge is None:
        raise HttpError(401, "M_UNKNOWN_TOKEN", "Not an application service's token", soft_logout=False)
    return bridge


async def _ensure_user(context: Context, user_id: str) -> bool:
    """Make an account without a password; False if there is one."""
    row = UserRow(user_id=user_id, password_hash=None, created_ts=context.node.clock())
    return await context.node.store.put_user(row)


async def _new_session(context: Context, user_id: str, body: JsonObject) -> JsonObject:
    """A device with a fresh token. The device keeps its key packages and messages if it existed."""
    device_id = optional_text(body, "device_id") or context.node.ids(DEVICE_ID_BYTES).replace("-", "_")
    if not is_device_id(device_id):
        raise invalid("device_id is not a device ID")
    name = optional_text(body, "initial_device_display_name", limit=MAX_DISPLAY_NAME)
    devices = {device.device_id: device for device in context.node.store.devices(user_id)}
    known = devices.get(device_id)
    if known is None and len(devices) >= MAX_DEVICES:
        raise HttpError(
            403, "M_LIMIT_EXCEEDED", f"An account may have {MAX_DEVICES} devices: log one out first"
        )
    device = DeviceRow(
        user_id=user_id,
        device_id=device_id,
        display_name=known.display_name if known is not None else name,
        token_hash=None,
    )
    async with context.in_flight.alone(session_name(user_id, device_id)):
        tokens = await open_session(context, device, renewable=boolean(body, "refresh_token"))
    return {"user_id": user_id, "device_id": device_id, **tokens}


async def register(context: Context, request: Request) -> Response:
    """``POST register`` by a bridge. Accounts of people are made by the operator: ``linearized user
    create``.
    """
    body = await request.json()
    if request.query_one("kind", "user") != "user":
        raise HttpError(403, "M_GUEST_ACCESS_FORBIDDEN", "This server has no guests")
    if optional_text(body, "type") != BRIDGE:
        raise HttpError(403, "M_FORBIDDEN", "Registration is closed: ask the operator for an account")
    bridge = _bridge_of(context, request)
    user_id = _registered_user_id(bridge, text(body, "username"), context.node.identity.name)
    if not await _ensure_user(context, user_id):
        raise HttpError(400, "M_USER_IN_USE", f"{user_id} exists")
    if boolean(body, "inhibit_login"):
        return json_response({"user_id": user_id})
    return json_response(await _new_session(context, user_id, body))


def _registered_user_id(bridge: BridgeConfig, username: str, server_name: str) -> str:
    """A full user ID; a bare localpart is the bot's, or else belongs to the only domain of the bridge."""
    if username.startswith("@"):
        parse_user_id(username)
        require_bridged(bridge, username)
        return username
    if not _LOCALPART.fullmatch(username):
        raise HttpError(400, "M_INVALID_USERNAME", "A username has only a-z, 0-9 and ._=/+-")
    if f"@{username}:{server_name}" == bridge.bot:
        return bridge.bot
    if len(bridge.domains) != 1:
        raise HttpError(400, "M_INVALID_USERNAME", "Give the full user ID: this bridge has several domains")
    return f"@{username}:{bridge.domains[0]}"


async def logout(context: Context, request: Request, caller: Caller) -> Response:
    """``POST logout``: ends the session and deletes its device."""
    del request
    await log_out(context, caller, [caller.require_device()])
    return json_response({})


async def logout_all(context: Context, request: Request, caller: Caller) -> Response:
    """``POST logout/all``: the same for every device of the user."""
    del request
    await log_out(
        context, caller, [device.device_id for device in context.node.store.devices(caller.user_id)]
    )
    return json_response({})


async def whoami(context: Context, request: Request, caller: Caller) -> Response:
    """``GET account/whoami``."""
    del context, request
    answer: JsonObject = {"user_id": caller.user_id, "is_guest": False}
    if caller.device_id is not None:
        answer["device_id"] = caller.device_id
    return json_response(answer)
