"""``POST /_matrix/client/v1/login/get_token``."""

from __future__ import annotations

from linearized.server.clients.auth import Caller, token_hash
from linearized.server.clients.context import Context
from linearized.server.clients.interactive import require_owner
from linearized.server.clients.login_tokens import LIFETIME_MS
from linearized.server.clients.sessions import TOKEN_BYTES
from linearized.server.http import HttpError, Request, Response, json_response


async def get_token(context: Context, request: Request, caller: Caller) -> Response:
    """A token with which another device of the caller's logs in, given for the account's password."""
    if caller.bridge is not None:
        raise HttpError(403, "M_FORBIDDEN", "A bridge logs its users in by itself")
    await require_owner(context, request, caller, await request.json())
    token = context.node.ids(TOKEN_BYTES)
    context.login_tokens.keep(token_hash(token), caller.user_id)
    return json_response({"login_token": token, "expires_in_ms": LIFETIME_MS})
