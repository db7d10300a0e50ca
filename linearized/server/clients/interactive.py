"""Proving with the account's password that its owner is the one who asks (Client-Server API, User-Interactive
Authentication).
"""

from __future__ import annotations

from typing import Final

from linearized.protocol.canonical import JsonObject
from linearized.server.clients.accounts import PASSWORD, named_user, require_password
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import optional_object, optional_text, text
from linearized.server.http import HttpError, Request

SESSION_BYTES: Final = 12  # names an attempt to the client; nothing is kept of it here


async def require_owner(context: Context, request: Request, caller: Caller, body: JsonObject) -> None:
    """Check ``auth`` in a body. Everything is in the one request, so no session is remembered.

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
