"""Asking for keys that did not come (Matrix v1.16, "Key sharing").

What was sent to the bot's device while the homeserver saw us down may be lost: the homeserver forgets to push
it, and the bot's inbox cannot be read. The device whose session it is has given us the key once, so it may
give it again to the same device. Whether and when it answers is up to it; as its answer may be lost in the
same way, it is asked again a few times.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from sqlite3 import Row
from typing import Final

from bridges.matrix.database import Database
from bridges.matrix.megolm.accounts import MEGOLM, OwnDevice
from bridges.matrix.megolm.devices import Device, DeviceLists
from bridges.matrix.megolm.publishing import Publishing
from bridges.matrix.megolm.signing import JsonObject

# How long an event waits before its key is asked for: most keys that are late come by themselves, in seconds.
ASK_AFTER_MS: Final = 5_000
# How long after each request the next one follows, while an event needs the key. The second is in time for
# events that wait; the others are for devices that are away.
AGAIN_MS: Final = (10_000, 60_000, 600_000, 3_600_000, 21_600_000)
# Requests remembered, the newest: an answer to an older one is refused, as one that nobody asked for.
MAX_REQUESTS: Final = 10_000
REQUEST: Final = "m.room_key_request"
_UNIQUE_BYTES: Final = 16
# The requests that are made again when it is time: those whose key is needed still.
_AGAIN: Final = (
    "FROM key_requests WHERE came = 0 AND request_id IS NOT NULL AND again IS NOT NULL AND EXISTS "
    "(SELECT 1 FROM undecrypted WHERE undecrypted.room_id = key_requests.room_id "
    "AND undecrypted.session_id = key_requests.session_id)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Missing:
    """A session whose key is missing; ``sender_key`` is what an event says of its device: no proof."""

    room_id: str
    session_id: str
    user_id: str
    sender_key: str


class KeyRequests:
    """The requests under way. ``clock`` gives milliseconds."""

    def __init__(
        self,
        database: Database,
        *,
        publishing: Publishing,
        lists: DeviceLists,
        bot: str,
        clock: Callable[[], int],
        ids: Callable[[int], str],
    ) -> None:
        self._database = database
        self._publishing = publishing
        self._lists = lists
        self._bot = bot
        self._clock = clock
        self._ids = ids

    async def work(self) -> None:
        """Ask for keys that events have waited for long enough; take back requests for keys that came.

        Raises:
            ClientError: the homeserver is away; calling it again continues.
        """
        for missing in self._unasked():
            request_id = self._ids(_UNIQUE_BYTES)
            # Noted first: one that is lost with us is made again in its time.
            self._note(missing, request_id)
            await self._ask(missing, request_id)
        for row in self._due():
            request_id = self._ids(_UNIQUE_BYTES)
            self._note_again(row, request_id)
            await self._take_back(row)
            await self._ask(_missing(row), request_id)
        for row in self._database.all("SELECT * FROM key_requests WHERE came = 1 AND request_id IS NOT NULL"):
            await self._take_back(row)
            self._database.run("DELETE FROM key_requests WHERE number = ?", row["number"])

    async def _ask(self, missing: _Missing, request_id: str) -> None:
        body = {
            "algorithm": MEGOLM,
            "room_id": missing.room_id,
            "session_id": missing.session_id,
            "sender_key": missing.sender_key,
        }
        await self._send(missing, {"action": "request", "request_id": request_id, "body": body})

    async def _take_back(self, row: Row) -> None:
        content = {"action": "request_cancellation", "request_id": row["request_id"]}
        await self._send(_missing(row), content)

    async def _send(self, missing: _Missing, content: JsonObject) -> None:
        own = await self._publishing.device(self._bot)
        devices = await self._devices(missing, own)
        if devices:
            sent = {**content, "requesting_device_id": own.device_id}
            messages = {missing.user_id: {device.device_id: sent for device in devices}}
            txn_id = self._ids(_UNIQUE_BYTES)
            await self._publishing.api(own).send_to_device(REQUEST, messages, txn_id=txn_id)

    async def _devices(self, missing: _Missing, own: OwnDevice) -> list[Device]:
        """The device whose session it is said to be; all of its user's if that is not known."""
        await self._publishing.refresh([missing.user_id], own)
        devices = self._lists.of(missing.user_id)
        return [one for one in devices if one.curve25519 == missing.sender_key] or devices

    def _unasked(self) -> list[_Missing]:
        rows = self._database.all(
            "SELECT room_id, session_id, MIN(event) AS event FROM undecrypted "
            "WHERE said = 0 AND session_id <> '' AND since <= ? "
            "AND NOT EXISTS (SELECT 1 FROM key_requests WHERE key_requests.room_id = undecrypted.room_id "
            "AND key_requests.session_id = undecrypted.session_id) GROUP BY room_id, session_id",
            self._clock() - ASK_AFTER_MS,
        )
        return [_missing_of(row) for row in rows]

    def _due(self) -> list[Row]:
        """The requests to make again."""
        return self._database.all(f"SELECT * {_AGAIN} AND again <= ?", self._clock())

    def patience(self) -> int | None:
        """Milliseconds until there is a key to ask for; ``None`` if none is missing."""
        oldest = self._database.one(
            "SELECT MIN(since) FROM undecrypted "
            "WHERE said = 0 AND session_id <> '' AND NOT EXISTS (SELECT 1 FROM key_requests "
            "WHERE key_requests.room_id = undecrypted.room_id "
            "AND key_requests.session_id = undecrypted.session_id)"
        )[0]
        again = self._database.one(f"SELECT MIN(again) {_AGAIN}")[0]
        due = [int(again)] if again is not None else []
        due += [int(oldest) + ASK_AFTER_MS] if oldest is not None else []
        return max(0, min(due) - self._clock()) if due else None

    def _note_again(self, row: Row, request_id: str) -> None:
        asked = row["asked"] + 1
        again = self._clock() + AGAIN_MS[asked - 1] if asked <= len(AGAIN_MS) else None
        self._database.run(
            "UPDATE key_requests SET request_id = ?, asked = ?, again = ? WHERE number = ?",
            request_id,
            asked,
            again,
            row["number"],
        )

    def _note(self, missing: _Missing, request_id: str | None) -> None:
        with self._database.together():
            self._database.run(
                "INSERT OR IGNORE INTO key_requests "
                "(room_id, session_id, user_id, sender_key, request_id, again) VALUES (?, ?, ?, ?, ?, ?)",
                missing.room_id,
                missing.session_id,
                missing.user_id,
                missing.sender_key,
                request_id,
                self._clock() + AGAIN_MS[0],
            )
            self._database.run(
                "DELETE FROM key_requests WHERE number <= (SELECT MAX(number) FROM key_requests) - ?",
                MAX_REQUESTS,
            )

    def withheld(self, room_id: str, session_id: str, user_id: str) -> None:
        """A user says that the key of a session will not come: it is not asked for."""
        self._note(_Missing(room_id=room_id, session_id=session_id, user_id=user_id, sender_key=""), None)

    def asked_for(self, room_id: str, session_id: str, device: Device) -> bool:
        """Whether we asked the user of this device for the key of a session."""
        found = self._database.first(
            "SELECT 1 FROM key_requests WHERE room_id = ? AND session_id = ? AND user_id = ? "
            "AND request_id IS NOT NULL",
            room_id,
            session_id,
            device.user_id,
        )
        return found is not None

    def came(self, room_id: str, session_id: str) -> None:
        """The key of a session is here."""
        self._database.run(
            "UPDATE key_requests SET came = 1 WHERE room_id = ? AND session_id = ?", room_id, session_id
        )


def _missing(row: Row) -> _Missing:
    return _Missing(
        room_id=row["room_id"],
        session_id=row["session_id"],
        user_id=row["user_id"],
        sender_key=row["sender_key"],
    )


def _missing_of(row: Row) -> _Missing:
    event = json.loads(row["event"])
    return _Missing(
        room_id=row["room_id"],
        session_id=row["session_id"],
        user_id=str(event.get("sender")),
        sender_key=str(event["content"].get("sender_key")),
    )
