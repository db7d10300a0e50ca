"""Events as a Linearized Matrix participant sends them."""

from __future__ import annotations

from linearized.protocol.base64 import encode_base64
from linearized.protocol.build import build_lpdu
from linearized.protocol.canonical import JsonObject
from linearized.protocol.versions import get_version
from linearized.room.submissions import (
    Handshake,
    LinearizedPdu,
)
from tests.room.support import (
    BOB,
    NOW,
    ROOM,
    A,
    B,
    linearized_pdu,
)


def commit_lpdu(submission: Handshake, extra: JsonObject | None = None) -> LinearizedPdu:
    group_info = submission.bundle.group_info
    assert group_info is not None
    assert group_info.full is not None
    content: JsonObject = {
        "message": encode_base64(submission.bundle.message),
        "public_group_state": encode_base64(group_info.full),
        **(extra or {}),
    }
    return lpdu("m.mls.commit", content)


def lpdu(
    event_type: str, content: JsonObject, *, sender: str = BOB, state_key: str | None = None
) -> LinearizedPdu:
    built = build_lpdu(
        identity=B,
        version=get_version("dev.linearized.1"),
        room_id=ROOM,
        type=event_type,
        sender=sender,
        content=content,
        origin_server_ts=NOW,
        hub_server=A.name,
        state_key=state_key,
    )
    return linearized_pdu(built, B, get_version("dev.linearized.1"))
