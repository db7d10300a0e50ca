"""What a client asks before it does anything: versions and capabilities."""

from __future__ import annotations

from typing import Final

from linearized.protocol.base64 import encode_base64
from linearized.protocol.versions import DEFAULT_ROOM_VERSION, ROOM_VERSIONS
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.operators import is_operator
from linearized.server.http import Request, Response, json_response

# Clients look for the very version that brought what they want: threads and private read receipts for
# instance with v1.4. Of none of them is all here, see docs/clients.md.
VERSIONS: Final = tuple(f"v1.{minor}" for minor in range(1, 14))
# The franking agent to create the groups of new rooms with: FrankingAgentData in base64 by cipher suite.
FRANKING: Final = "dev.linearized.franking"
# Whether the caller may see the rooms of this server as its operator.
OPERATOR: Final = "dev.linearized.operator"
UNSTABLE_FEATURES: Final = {
    "dev.linearized.1": True,
    "org.matrix.msc4222": True,  # /sync with state_after
    "org.matrix.simplified_msc3575": True,
}


async def versions(context: Context, request: Request) -> Response:
    """``GET /_matrix/client/versions``."""
    del context, request
    return json_response({"versions": list(VERSIONS), "unstable_features": UNSTABLE_FEATURES})


async def capabilities(context: Context, request: Request, caller: Caller) -> Response:
    """``GET capabilities``."""
    del request
    agents = {str(suite): encode_base64(agent) for suite, agent in context.node.franking.agents.items()}
    available = {name: "stable" if version.stable else "unstable" for name, version in ROOM_VERSIONS.items()}
    on, off = {"enabled": True}, {"enabled": False}
    return json_response(
        {
            "capabilities": {
                "m.change_password": off,
                "m.room_versions": {"default": DEFAULT_ROOM_VERSION, "available": available},
                "m.set_displayname": on,
                "m.set_avatar_url": on,
                "m.3pid_changes": off,
                "m.get_login_token": on,
                FRANKING: {"agents": agents},
                OPERATOR: on if is_operator(context, caller) else off,
            }
        }
    )
