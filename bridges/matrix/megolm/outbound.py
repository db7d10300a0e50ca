"""Megolm, writing: the sessions of our users, whom their keys were given, and when a session ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from vodozemac import GroupSession

from bridges.matrix.database import Database
from bridges.matrix.megolm.accounts import MEGOLM, OwnDevice
from bridges.matrix.megolm.devices import Device
from bridges.matrix.megolm.inbound import GroupDecryption
from bridges.matrix.megolm.rooms import RoomSettings
from bridges.matrix.megolm.signing import JsonObject
from linearized.exceptions import StoreError

# Of older sessions of a user in a room nobody can ask for the key again.
SHARES_KEPT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """A session a user of ours writes with in a room."""

    room_id: str
    own: OwnDevice
    session: GroupSession

    @property
    def room_key(self) -> JsonObject:
        """The content of ``m.room_key``: whoever has it reads from the next message on."""
        return {
            "algorithm": MEGOLM,
            "room_id": self.room_id,
            "session_id": self.session.session_id,
            "session_key": self.session.session_key.to_base64(),
        }


class GroupEncryption:
    """The sessions our users write with. ``clock`` gives milliseconds."""

    def __init__(
        self, database: Database, decryption: GroupDecryption, *, key: bytes, clock: Callable[[], int]
    ) -> None:
        self._database = database
        self._decryption = decryption
        self._key = key
        self._clock = clock

    def session(
        self, room_id: str, own: OwnDevice, settings: RoomSettings, recipients: Iterable[Device]
    ) -> Outbound:
        """The session for the next message that ``recipients`` may read.

        A new one if the last is used up or too old, or if somebody has its key who is not among the
        recipients.
        """
        found = self._current(room_id, own, settings)
        if found is not None and self._holders(found) <= {_name(device) for device in recipients}:
            return found
        return self._new(room_id, own)

    def _current(self, room_id: str, own: OwnDevice, settings: RoomSettings) -> Outbound | None:
        row = self._database.first(
            "SELECT * FROM megolm_outbound WHERE room_id = ? AND user_id = ?", room_id, own.user_id
        )
        if row is None or self._clock() - row["created"] >= settings.rotation_ms:
            return None
        try:
            session = GroupSession.from_pickle(row["pickle"], self._key)
        except ValueError as error:
            raise StoreError("the keys of encrypted rooms do not open with this storage key") from error
        if session.message_index >= settings.rotation_messages:
            return None
        return Outbound(room_id=room_id, own=own, session=session)

    def _new(self, room_id: str, own: OwnDevice) -> Outbound:
        made = Outbound(room_id=room_id, own=own, session=GroupSession())
        ourselves = Device(
            user_id=own.user_id,
            device_id=own.device_id,
            curve25519=own.curve25519,
            ed25519=own.ed25519,
            cross_signed=True,
        )
        with self._database.together():
            # Kept for whoever loses the key and asks for it again.
            self._decryption.add(made.room_key, ourselves)
            self._database.run(
                "INSERT OR REPLACE INTO megolm_outbound VALUES (?, ?, ?, ?, ?)",
                room_id,
                own.user_id,
                made.session.session_id,
                made.session.pickle(self._key),
                self._clock(),
            )
            self._database.run(
                "DELETE FROM megolm_shared WHERE room_id = ?1 AND session_id IN (SELECT session_id FROM "
                "megolm_inbound WHERE room_id = ?1 AND sender_key = ?2 ORDER BY number DESC "
                "LIMIT -1 OFFSET ?3)",
                room_id,
                own.curve25519,
                SHARES_KEPT,
            )
        return made

    def _holders(self, outbound: Outbound) -> set[tuple[str, str, str]]:
        rows = self._database.all(
            "SELECT * FROM megolm_shared WHERE room_id = ? AND session_id = ? AND message_index IS NOT NULL",
            outbound.room_id,
            outbound.session.session_id,
        )
        return {(row["user_id"], row["device_id"], row["curve25519"]) for row in rows}

    def without_key(self, outbound: Outbound, recipients: Iterable[Device]) -> list[Device]:
        """Those recipients to whom the session's key was neither given nor refused."""
        rows = self._database.all(
            "SELECT * FROM megolm_shared WHERE room_id = ? AND session_id = ?",
            outbound.room_id,
            outbound.session.session_id,
        )
        settled = {(row["user_id"], row["device_id"], row["curve25519"]) for row in rows}
        return [device for device in recipients if _name(device) not in settled]

    def settle(self, outbound: Outbound, devices: Iterable[Device], *, given: bool) -> None:
        """The key was ``given`` to devices, from the next message on, or could not be."""
        with self._database.together():
            for device in devices:
                self._database.run(
                    "INSERT OR REPLACE INTO megolm_shared VALUES (?, ?, ?, ?, ?, ?)",
                    outbound.room_id,
                    outbound.session.session_id,
                    *_name(device),
                    outbound.session.message_index if given else None,
                )

    def given_at(self, room_id: str, session_id: str, device: Device) -> int | None:
        """The message index from which a device was given a session's key; ``None`` if it was not."""
        row = self._database.first(
            "SELECT message_index FROM megolm_shared WHERE room_id = ? AND session_id = ? AND user_id = ? "
            "AND device_id = ? AND curve25519 = ?",
            room_id,
            session_id,
            *_name(device),
        )
        return None if row is None else row["message_index"]

    def encrypt(self, outbound: Outbound, event_type: str, content: Mapping[str, Any]) -> JsonObject:
        """The content of an ``m.room.encrypted`` event. The ratchet has moved on, on disk, on return."""
        session = outbound.session
        payload = {"type": event_type, "content": content, "room_id": outbound.room_id}
        ciphertext = session.encrypt(orjson.dumps(payload)).to_base64()
        self._database.run(
            "UPDATE megolm_outbound SET pickle = ? WHERE room_id = ? AND user_id = ? AND session_id = ?",
            session.pickle(self._key),
            outbound.room_id,
            outbound.own.user_id,
            session.session_id,
        )
        sealed: JsonObject = {
            "algorithm": MEGOLM,
            # These two "keys are deprecated. They SHOULD continue to be sent".
            "sender_key": outbound.own.curve25519,
            "device_id": outbound.own.device_id,
            "session_id": session.session_id,
            "ciphertext": ciphertext,
        }
        # The homeserver relates events, so this stays readable.
        relation = content.get("m.relates_to")
        return sealed if relation is None else {**sealed, "m.relates_to": relation}


def _name(device: Device) -> tuple[str, str, str]:
    return device.user_id, device.device_id, device.curve25519
