"""An unmodified matrix-nio reads a room's whole history: log in, sync, page back to the creation event.

Run as a program by the interpreter of an environment that holds matrix-nio and nothing of ours::

    python nio_history.py < request.json > history.json

The request names ``homeserver``, ``ca`` (PEM file), ``user_id``, ``password``, ``room_id``, ``join`` (accept
an invitation first). The answer has ``events`` (oldest first, as the server gave them), ``members``,
``room_name``, ``unparsed`` (IDs of events matrix-nio found malformed), ``pages`` and times in seconds.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from typing import Any

# matrix-nio lives in an environment of its own, where the types of this project are not checked.
from nio import (  # type: ignore[import-not-found]
    AsyncClient,
    BadEvent,
    JoinResponse,
    LoginResponse,
    RoomMessagesResponse,
    SyncResponse,
    UnknownBadEvent,
)

PAGE = 100
FILTER = {"room": {"timeline": {"limit": 20}}}


def expect(response: Any, kind: type) -> Any:
    """Give ``response`` if the library took it for a ``kind``; otherwise end with its complaint."""
    if not isinstance(response, kind):
        sys.exit(f"expected {kind.__name__}, got {response}")
    return response


async def as_sent(response: Any) -> Any:
    """What the server sent, decoded anew: the library writes default values into what it parsed."""
    return json.loads(await response.transport_response.read())


class History:
    """A room's events, newest first, as the server sent them, and which of them the library did not take."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.unparsed: list[str] = []

    def add(self, events: list[dict[str, Any]], parsed: list[Any]) -> None:
        """Append events with what the library made of them, both newest first."""
        self.events += events
        bad = (event for event in parsed if isinstance(event, BadEvent | UnknownBadEvent))
        self.unparsed += [str(event.source.get("event_id")) for event in bad]

    @property
    def complete(self) -> bool:
        """Whether it reaches back to the room's creation."""
        return bool(self.events) and self.events[-1]["type"] == "m.room.create"


async def read_history(request: dict[str, Any]) -> dict[str, Any]:
    """Do what the module says, for the request described there."""
    room_id = request["room_id"]
    tls = ssl.create_default_context(cafile=request["ca"])
    client = AsyncClient(request["homeserver"], request["user_id"], ssl=tls)
    try:
        expect(await client.login(request["password"], device_name="history reader"), LoginResponse)
        if request["join"]:
            expect(await client.join(room_id), JoinResponse)
        began = time.monotonic()
        synced = expect(await client.sync(timeout=0, sync_filter=FILTER, full_state=True), SyncResponse)
        if room_id not in synced.rooms.join:
            sys.exit(f"the sync does not show {room_id} as joined")
        sync_seconds = time.monotonic() - began

        history = History()
        sent = (await as_sent(synced))["rooms"]["join"][room_id]["timeline"]["events"]
        timeline = synced.rooms.join[room_id].timeline
        history.add(sent[::-1], timeline.events[::-1])
        token, pages = timeline.prev_batch, 0
        while not history.complete:
            page = expect(await client.room_messages(room_id, start=token, limit=PAGE), RoomMessagesResponse)
            history.add((await as_sent(page))["chunk"], page.chunk)
            pages += 1
            if not page.chunk or page.end is None or page.end == token:
                break
            token = page.end
        room = client.rooms[room_id]
        return {
            "events": history.events[::-1],
            "unparsed": history.unparsed,
            "members": sorted(room.users),
            "room_name": room.name,
            "pages": pages,
            "sync_seconds": sync_seconds,
            "seconds": time.monotonic() - began,
        }
    finally:
        await client.close()


if __name__ == "__main__":
    json.dump(asyncio.run(read_history(json.load(sys.stdin))), sys.stdout)
