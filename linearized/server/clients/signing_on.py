"""Signing on as a user of a homeserver, with no password here: the client asks the homeserver for an OpenID
token and gives it to us, and the homeserver tells us whose it is (``docs/decisions/0030-sign-on.md``).

Which homeservers those are stands in the settings: no request goes to a server that a client names.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import trio

from linearized.exceptions import IdentifierError
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import parse_user_id, user_domain
from linearized.server.buckets import address_names
from linearized.server.clients.context import Context
from linearized.server.clients.fields import bad_json, text
from linearized.server.exchange import OutboundError
from linearized.server.http import HttpError, Request
from linearized.store.base import UserRow

OPENID: Final = "dev.linearized.login.openid"
_USER_INFO: Final = "/_matrix/federation/v1/openid/userinfo?access_token="
# A person waits for it; the homeserver has to look up one token.
ANSWER_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 4096  # it holds one user ID
MAX_TOKEN: Final = 1024  # homeservers' have a few dozen characters; it becomes part of a URL
MAX_USER_ID: Final = 255  # "MUST NOT exceed 255 bytes" (Appendices, User Identifiers)
# Statuses with which a homeserver says that it knows no such token, or does not any more.
_REFUSED: Final = frozenset({401, 403})


async def by_openid(context: Context, request: Request, body: JsonObject) -> str:
    """The user ID of the account here of whoever has an OpenID token; the account is made the first time.

    Args:
        body: of ``POST login``, with the members of what ``POST user/{userId}/openid/request_token`` answers.

    Raises:
        HttpError: 403 ``M_FORBIDDEN``: not one of our homeservers, or it does not know the token, or says it
            belongs to a user of another; 502 ``M_UNKNOWN``: it does not answer.
    """
    server, token = text(body, "matrix_server_name"), text(body, "access_token", limit=MAX_TOKEN)
    if text(body, "token_type") != "Bearer":
        raise bad_json("token_type must be Bearer")
    context.attempts.take(*address_names(request))
    if server not in context.node.config.sign_on.homeservers:
        raise HttpError(403, "M_FORBIDDEN", "Users of that homeserver do not sign on here")
    theirs = await _user_of(context, server, token)
    ours = local_account(theirs, own_name=context.node.identity.name)
    await _require_own_account(context, ours)
    return ours


async def _user_of(context: Context, server: str, token: str) -> str:
    path = _USER_INFO + quote(token, safe="")
    try:
        with trio.fail_after(ANSWER_SECONDS):
            answer = await context.node.federation.get_json(server, path, limit=MAX_ANSWER_BYTES)
    except trio.TooSlowError as error:
        raise HttpError(502, "M_UNKNOWN", f"{server} does not answer") from error
    except OutboundError as error:
        if error.status in _REFUSED:
            raise HttpError(403, "M_FORBIDDEN", "The homeserver does not know that token") from error
        raise HttpError(502, "M_UNKNOWN", f"{server} does not answer") from error
    user_id = answer.get("sub")
    try:
        domain = user_domain(user_id) if isinstance(user_id, str) else ""
    except IdentifierError:
        domain = ""
    if not isinstance(user_id, str) or domain != server:
        raise HttpError(403, "M_FORBIDDEN", "The homeserver names no user of its own")
    return user_id


def local_account(user_id: str, *, own_name: str) -> str:
    """The account here of a homeserver's user: for ``@alice:matrix.example`` it is
    ``@alice=40matrix.example:own_name``.

    That is the specification's mapping ("Mapping from other character sets", Appendices) of the text
    ``alice@matrix.example``: two users never have the same.

    Raises:
        HttpError: 400 ``M_INVALID_USERNAME``: it would be longer than a user ID may be.
    """
    localpart, domain = parse_user_id(user_id)
    mapped = f"@{_mapped(f'{localpart}@{domain}')}:{own_name}"
    if len(mapped) > MAX_USER_ID:
        raise HttpError(400, "M_INVALID_USERNAME", "That user ID is too long for an account here")
    return mapped


def _mapped(name: str) -> str:
    """Upper case as ``_`` and lower case, ``_`` twice, what is not allowed as ``=`` and its bytes in hex."""
    parts: list[str] = []
    for byte in name.encode():
        character = chr(byte)
        if character in "abcdefghijklmnopqrstuvwxyz0123456789.-/":
            parts.append(character)
        elif character == "_":
            parts.append("__")
        elif character in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            parts.append("_" + character.lower())
        else:
            parts.append(f"={byte:02x}")
    return "".join(parts)


async def _require_own_account(context: Context, user_id: str) -> None:
    """Make the account. One with a password was made by the operator, for somebody else perhaps."""
    store = context.node.store
    await store.put_user(UserRow(user_id=user_id, password_hash=None, created_ts=context.node.clock()))
    user = store.user(user_id)
    if user is None or user.password_hash is not None:
        raise HttpError(403, "M_FORBIDDEN", f"{user_id} is an account with a password")
