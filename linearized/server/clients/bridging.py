"""Events of bridged users: what the hub says about them in ``provenance`` (docs, room version
``dev.linearized.1``).
"""

from __future__ import annotations

import hashlib
from typing import Final

from linearized.protocol.base64 import encode_base64url
from linearized.protocol.canonical import JsonObject
from linearized.protocol.identifiers import user_domain
from linearized.room.admission import ENCRYPTED
from linearized.room.submissions import LocalEvent
from linearized.server.clients.auth import Caller
from linearized.server.clients.context import Context
from linearized.server.clients.fields import binary, invalid, query_timestamp
from linearized.server.http import Request
from linearized.store.base import Role

# With which a bridge says what event of its homeserver it passes on.
SOURCE_PARAMETER: Final = "dev.linearized.source_event_id"
MAX_SOURCE_ID: Final = 255  # "event IDs MUST NOT exceed 255 bytes" (Matrix)
# Marks an event that a bridge made itself: it has no original. No Matrix event ID begins like this.
_NO_ORIGINAL: Final = "~"
_MARK_BYTES: Final = 12


def local_event(
    context: Context,
    request: Request,
    caller: Caller,
    *,
    room_id: str,
    event_type: str,
    content: JsonObject,
    state_key: str | None = None,
) -> LocalEvent:
    """The event a caller asks for, with the timestamp and provenance that only bridges can set.

    Raises:
        HttpError: 400 ``M_INVALID_PARAM`` or ``M_BAD_JSON``.
    """
    return LocalEvent(
        sender=caller.user_id,
        type=event_type,
        content=content,
        state_key=state_key,
        # "Application services can use ?ts=" (Application Service API, Timestamp massaging); for others it
        # means nothing.
        origin_server_ts=query_timestamp(request, "ts") if caller.bridge is not None else None,
        provenance=(
            _provenance(context, request, caller, event_type=event_type, content=content)
            if _vouched_for(context, room_id, caller.user_id)
            else None
        ),
    )


def _vouched_for(context: Context, room_id: str, user_id: str) -> bool:
    """Whether the event needs provenance: the server's own users need none, and only a hub writes one."""
    room = context.node.store.room(room_id)
    is_hub = room is None or room.role is Role.HUB
    return is_hub and user_domain(user_id) in context.node.bridged_domains


def _provenance(
    context: Context, request: Request, caller: Caller, *, event_type: str, content: JsonObject
) -> JsonObject:
    domain = user_domain(caller.user_id)
    if event_type == ENCRYPTED:
        digest = hashlib.sha256(binary(content, "ciphertext")).digest()
        return {"protocol": "mimi", "provider": domain, "mls": encode_base64url(digest)}
    source = request.query_one(SOURCE_PARAMETER)
    if source is not None and not 0 < len(source.encode()) <= MAX_SOURCE_ID:
        raise invalid(f"{SOURCE_PARAMETER} must have 1 to {MAX_SOURCE_ID} bytes")
    made = _NO_ORIGINAL + context.node.ids(_MARK_BYTES)
    return {"protocol": "matrix", "provider": domain, "event_id": source if source is not None else made}
