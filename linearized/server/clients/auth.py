"""Who is calling: an account's device by its access token, or a bridge by its application service token.

A token is looked up by its SHA-256, the only form in which it is stored. "Authorization: Bearer" is the only
way to send one: a token in the query ends up in logs and histories.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from linearized.config import BridgeConfig
from linearized.protocol.identifiers import is_device_id, user_domain
from linearized.server.buckets import address_names
from linearized.server.clients.context import Context
from linearized.server.clients.failures import as_client_error
from linearized.server.clients.fields import invalid
from linearized.server.deciding import Overloaded
from linearized.server.http import HttpError, Request, Response, Route
from linearized.server.outbound import OutboundError
from linearized.server.providers.client import ProviderError

PSEUDONYM_PARAMETER: Final = "dev.linearized.pseudonym"
"""In the query of an account's request: which of its pseudonyms it acts as, with ``device_id``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated caller. ``device_id`` is None for a bridge that named none; ``bridge`` is None for
    accounts; ``owner`` is the account behind a pseudonym, None for everybody else.
    """

    user_id: str
    device_id: str | None
    bridge: BridgeConfig | None
    owner: str | None = None

    @property
    def scope(self) -> str:
        """What a transaction ID is unique in: "the scope of a transaction ID is a device" (Client-Server
        API).
        """
        return f"{self.user_id}\x1f{self.device_id or ''}"

    def require_device(self) -> str:
        """The device ID, for what only a device can do.

        Raises:
            HttpError: 400 ``M_MISSING_PARAM``: a bridge must name a device with ``?device_id=``.
        """
        if self.device_id is None:
            raise HttpError(400, "M_MISSING_PARAM", "This needs a device: add ?device_id=")
        return self.device_id


def token_hash(token: str) -> str:
    """SHA-256 of an access token, in hex, as the store keeps it."""
    return hashlib.sha256(token.encode()).hexdigest()


def bearer_token(request: Request) -> str:
    """The token of the Authorization header.

    Raises:
        HttpError: 401 ``M_MISSING_TOKEN``.
    """
    for header in request.authorization:
        scheme, _, token = header.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
    if request.query_one("access_token") is not None:
        raise HttpError(
            401, "M_MISSING_TOKEN", "Send the access token in the Authorization header, not in the query"
        )
    raise HttpError(401, "M_MISSING_TOKEN", "Missing access token")


def bridge_by_token(context: Context, token: str) -> BridgeConfig | None:
    """The bridge with this application service token. Every bridge is compared, each in constant time."""
    given = token.encode()
    found = None
    for bridge in context.node.config.bridges:
        if hmac.compare_digest(bridge.token.encode(), given):
            found = bridge
    return found


def authenticate(context: Context, request: Request) -> Caller:
    """Find out who is calling.

    Raises:
        HttpError: 401 ``M_MISSING_TOKEN`` or ``M_UNKNOWN_TOKEN``; 403 ``M_FORBIDDEN`` for a bridge acting for
            somebody outside its domains, or an account for a pseudonym that is not its own; 400
            ``M_INVALID_PARAM`` for a malformed user or device ID.
    """
    token = bearer_token(request)
    bridge = bridge_by_token(context, token)
    if bridge is not None:
        return _masquerade(bridge, request)
    device = context.node.store.device_by_token(token_hash(token))
    if device is None:
        # "soft_logout: true" tells the client to renew its token and keep what it has.
        spent = context.node.store.device_by_spent_token(token_hash(token)) is not None
        raise HttpError(401, "M_UNKNOWN_TOKEN", "Unknown access token", soft_logout=spent)
    if device.expires_ts is not None and device.expires_ts <= context.node.clock():
        raise HttpError(401, "M_UNKNOWN_TOKEN", "The access token has expired", soft_logout=True)
    pseudonym = request.query_one(PSEUDONYM_PARAMETER)
    if pseudonym is not None:
        return _as_pseudonym(context, request, pseudonym, owner=device.user_id)
    return Caller(user_id=device.user_id, device_id=device.device_id, bridge=None)


def _as_pseudonym(context: Context, request: Request, user_id: str, *, owner: str) -> Caller:
    """An account as a device of one of its pseudonyms, as the query says."""
    store, device_id = context.node.store, request.query_one("device_id")
    row = store.pseudonym(user_id)
    known = [device.device_id for device in store.devices(user_id)]
    if row is None or row.owner != owner or device_id not in known:
        raise HttpError(403, "M_FORBIDDEN", "That is no device of a pseudonym of this account")
    return Caller(user_id=user_id, device_id=device_id, bridge=None, owner=owner)


def _limited(context: Context, request: Request) -> Caller:
    """Find out who is calling and count it: an account's requests by the account, those without a good token
    by address. A bridge carries the traffic of a whole homeserver, and the operator trusts it.

    Raises:
        HttpError: as ``authenticate``, and 429 ``M_LIMIT_EXCEEDED``.
    """
    try:
        caller = authenticate(context, request)
    except HttpError:
        context.node.limits.address.take(*address_names(request))
        raise
    if caller.bridge is None:
        context.node.limits.account.take(caller.owner or caller.user_id)
    return caller


def _masquerade(bridge: BridgeConfig, request: Request) -> Caller:
    """The bot, or whom the query names ("Identity assertion", Application Service API)."""
    user_id = request.query_one("user_id", bridge.bot) or bridge.bot
    require_bridged(bridge, user_id)
    device_id = request.query_one("device_id")
    if device_id is not None and not is_device_id(device_id):
        raise invalid("device_id is not a device ID")
    return Caller(user_id=user_id, device_id=device_id, bridge=bridge)


def require_bridged(bridge: BridgeConfig, user_id: str) -> None:
    """Check that a bridge may act as a user: its bot, or anybody of its domains.

    Raises:
        HttpError: 403 ``M_FORBIDDEN``.
        IdentifierError: ``user_id`` is not a user ID.
    """
    if user_id != bridge.bot and user_domain(user_id) not in bridge.domains:
        raise HttpError(403, "M_FORBIDDEN", f"This bridge does not act for {user_id}")


PublicHandler = Callable[[Context, Request], Awaitable[Response]]
PrivateHandler = Callable[[Context, Request, Caller], Awaitable[Response]]


def public(context: Context, method: str, pattern: str, handler: PublicHandler) -> Route:
    """A route that anybody may call, as often as their address may."""

    async def run(request: Request) -> Response:
        context.node.limits.address.take(*address_names(request))
        return await handler(context, request)

    return Route(method, pattern, run)


def private(context: Context, method: str, pattern: str, handler: PrivateHandler) -> Route:
    """A route that needs a token; failures of other servers and of overload get answers a client can act
    on.
    """

    async def run(request: Request) -> Response:
        try:
            caller = _limited(context, request)
            return await handler(context, request, caller)
        except (Overloaded, OutboundError, ProviderError, trio.TooSlowError) as error:
            raise as_client_error(error) from error

    return Route(method, pattern, run)
