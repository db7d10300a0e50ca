"""Two unmodified matrix-nio clients talk: names, typing, receipts, read markers, redelivery.

Run as a program by the interpreter of an environment that holds matrix-nio and nothing of ours::

    python nio_peer.py < request.json > seen.json

The request names ``homeserver`` and ``password``; the answer says what each of the two, alice and bob, saw.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from nio import (  # type: ignore[import-not-found]
    AsyncClient,
    JoinResponse,
    LoginResponse,
    ProfileGetDisplayNameResponse,
    ProfileSetDisplayNameResponse,
    ReceiptEvent,
    RoomCreateResponse,
    RoomForgetResponse,
    RoomLeaveResponse,
    RoomReadMarkersResponse,
    RoomSendResponse,
    RoomTypingResponse,
    SyncResponse,
    TypingNoticeEvent,
    UpdateReceiptMarkerResponse,
)


def expect(response: Any, kind: type) -> Any:
    """Give ``response`` if the library took it for a ``kind``; otherwise end with its complaint."""
    if not isinstance(response, kind):
        sys.exit(f"expected {kind.__name__}, got {response}")
    return response


async def talk(request: dict[str, Any]) -> dict[str, Any]:
    """Do what the module says."""
    alice, bob = (AsyncClient(request["homeserver"], f"@{name}:a.example") for name in ("alice", "bob"))
    try:
        for client in (alice, bob):
            expect(await client.login(request["password"]), LoginResponse)
        expect(await alice.set_displayname("Alice"), ProfileSetDisplayNameResponse)
        room_id = expect(await alice.room_create(invite=[bob.user_id]), RoomCreateResponse).room_id
        expect(await bob.join(room_id), JoinResponse)
        message = {"msgtype": "m.text", "body": "hello"}
        sent = expect(await alice.room_send(room_id, "m.room.message", message), RoomSendResponse).event_id
        for client in (alice, bob):
            expect(await client.sync(full_state=True), SyncResponse)
        expect(await bob.room_typing(room_id, True, 20_000), RoomTypingResponse)
        expect(await bob.update_receipt_marker(room_id, sent), UpdateReceiptMarkerResponse)
        synced = expect(await alice.sync(timeout=5_000), SyncResponse)
        events = synced.rooms.join[room_id].ephemeral
        receipts = [each for event in events if isinstance(event, ReceiptEvent) for each in event.receipts]
        typing = [event.users for event in events if isinstance(event, TypingNoticeEvent)]
        expect(await bob.room_read_markers(room_id, sent, sent), RoomReadMarkersResponse)
        marked = expect(await bob.sync(timeout=5_000), SyncResponse).rooms.join[room_id].account_data
        name = expect(await bob.get_displayname(alice.user_id), ProfileGetDisplayNameResponse)
        seen = {
            "sent": sent,
            "typing": typing,
            "receipts": [[each.user_id, each.receipt_type, each.event_id] for each in receipts],
            "markers": [event.event_id for event in marked if hasattr(event, "event_id")],
            "name": name.displayname,
            "name_in_room": bob.rooms[room_id].users[alice.user_id].display_name,
        }
        expect(await bob.room_leave(room_id), RoomLeaveResponse)
        expect(await bob.room_forget(room_id), RoomForgetResponse)
        return seen
    finally:
        for client in (alice, bob):
            await client.close()


if __name__ == "__main__":
    json.dump(asyncio.run(talk(json.load(sys.stdin))), sys.stdout)
