"""What a client asks before it does anything: versions, capabilities, push rules, profiles."""

from __future__ import annotations

from typing import Final

from linearized.exceptions import IdentifierError
from linearized.protocol.base64 import encode_base64
from linearized.protocol.identifiers import user_domain
from linearized.protocol.versions import DEFAULT_ROOM_VERSION, ROOM_VERSIONS
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import invalid
from linearized.server.http import HttpError, Request, Response, json_response

# Versions since authenticated media that change nothing of what this server has.
VERSIONS: Final = ("v1.11", "v1.12", "v1.13")
# The franking agent to create the groups of new rooms with: FrankingAgentData in base64 by cipher suite.
FRANKING: Final = "dev.linearized.franking"
UNSTABLE_FEATURES: Final = {"dev.linearized.1": True}


async def versions(context: Context, request: Request) -> Response:
    """``GET /_matrix/client/versions``."""
    del context, request
    return json_response({"versions": list(VERSIONS), "unstable_features": UNSTABLE_FEATURES})


async def capabilities(context: Context, request: Request, caller: Caller) -> Response:
    """``GET capabilities``."""
    del request, caller
    agents = {str(suite): encode_base64(agent) for suite, agent in context.node.franking.agents.items()}
    available = {name: "stable" if version.stable else "unstable" for name, version in ROOM_VERSIONS.items()}
    off = {"enabled": False}
    return json_response(
        {
            "capabilities": {
                "m.change_password": off,
                "m.room_versions": {"default": DEFAULT_ROOM_VERSION, "available": available},
                "m.set_displayname": off,
                "m.set_avatar_url": off,
                "m.3pid_changes": off,
                FRANKING: {"agents": agents},
            }
        }
    )


async def push_rules(context: Context, request: Request, caller: Caller) -> Response:
    """``GET pushrules/``: none; this server pushes nothing."""
    del context, request, caller
    kinds = ("override", "content", "room", "sender", "underride")
    return json_response({"global": {kind: [] for kind in kinds}})


async def profile(context: Context, request: Request, caller: Caller) -> Response:
    """``GET profile/{userId}``: accounts have no profile of their own here; names stand in each room's
    memberships.
    """
    del caller
    user_id = request.params["user_id"]
    try:
        domain = user_domain(user_id)
    except IdentifierError as error:
        raise invalid(str(error)) from error
    if domain not in context.node.served_domains or context.node.store.user(user_id) is None:
        raise HttpError(404, "M_NOT_FOUND", "No such user here")
    return json_response({})
