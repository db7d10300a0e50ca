"""Megolm, reading: keys of others' sessions, and what is encrypted with them (Matrix v1.16,
"m.megolm.v1.aes-sha2").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from sqlite3 import Row
from typing import Any

import orjson
from vodozemac import ExportedSessionKey, InboundGroupSession, MegolmMessage, SessionKey

from bridges.matrix.database import Database
from bridges.matrix.megolm.accounts import MEGOLM
from bridges.matrix.megolm.devices import Device
from bridges.matrix.megolm.errors import (
    ForgedSender,
    MalformedKeyMessage,
    MissingKey,
    Replayed,
    TooLarge,
    Undecryptable,
    UnknownAlgorithm,
    WrongRoom,
)
from bridges.matrix.megolm.signing import JsonObject
from linearized.exceptions import StoreError

# An event has at most 64 KiB, so its ciphertext has less.
MAX_CIPHERTEXT = 64 * 1024
# Sessions kept of one device in one room, the newest: at a hundred messages each that is half a million
# messages. Who makes more would fill our disk.
MAX_SESSIONS = 5000
# Longer IDs are nobody's: a session ID has 43 characters, a room ID at most 255.
_MAX_ID = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomKey:
    """A checked room key: which session of which room it opens."""

    room_id: str
    session_id: str


class GroupDecryption:
    """The sessions we have the keys of."""

    def __init__(self, database: Database, *, key: bytes) -> None:
        self._database = database
        self._key = key

    # --- keys ---

    def add(self, content: Mapping[str, Any], sender: Device) -> RoomKey:
        """Keep the key in an ``m.room_key`` that came from a device.

        Raises:
            UnknownAlgorithm, MalformedKeyMessage: it is no such key.
            ForgedSender: the session is known as another device's.
        """
        room_id, session_id, text = _room_key(content)
        try:
            session = InboundGroupSession(SessionKey(text))
        except ValueError as error:
            raise MalformedKeyMessage("the room key is none") from error
        return self._keep(room_id, session_id, session, sender)

    def add_forwarded(self, content: Mapping[str, Any], owner: Device) -> RoomKey:
        """Keep the key in an ``m.forwarded_room_key``, whose forwarder the caller has checked. ``owner`` is
        the device whose session it is said to be.

        Raises:
            As ``add``; ForgedSender: the key names another device.
        """
        room_id, session_id, text = _room_key(content)
        claimed = (content.get("sender_key"), content.get("sender_claimed_ed25519_key"))
        if claimed != (owner.curve25519, owner.ed25519):
            raise ForgedSender("the forwarded key names another device than that of its session")
        try:
            session = InboundGroupSession.import_session(ExportedSessionKey(text))
        except ValueError as error:
            raise MalformedKeyMessage("the room key is none") from error
        return self._keep(room_id, session_id, session, owner)

    def _keep(self, room_id: str, session_id: str, session: InboundGroupSession, owner: Device) -> RoomKey:
        if session.session_id != session_id:
            raise MalformedKeyMessage("the room key is that of another session")
        known = self._row(room_id, session_id)
        if known is not None:
            owned_by = (known["sender"], known["sender_key"], known["ed25519"])
            if owned_by != (owner.user_id, owner.curve25519, owner.ed25519):
                raise ForgedSender("the session is another device's")
            # "the client MUST ensure … that the new session key has a lower message index than the existing"
            if known["first_index"] <= session.first_known_index:
                return RoomKey(room_id=room_id, session_id=session_id)
        with self._database.together():
            self._database.run(
                "INSERT INTO megolm_inbound (room_id, session_id, sender, sender_key, ed25519, first_index, "
                "pickle) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (room_id, session_id) DO UPDATE SET "
                "first_index = excluded.first_index, pickle = excluded.pickle",
                room_id,
                session_id,
                owner.user_id,
                owner.curve25519,
                owner.ed25519,
                session.first_known_index,
                session.pickle(self._key),
            )
            self._database.run(
                "DELETE FROM megolm_inbound WHERE number <= (SELECT number FROM megolm_inbound "
                "WHERE room_id = ?1 AND sender_key = ?2 ORDER BY number DESC LIMIT 1 OFFSET ?3) "
                "AND room_id = ?1 AND sender_key = ?2",
                room_id,
                owner.curve25519,
                MAX_SESSIONS,
            )
        return RoomKey(room_id=room_id, session_id=session_id)

    def exported(self, room_id: str, session_id: str, index: int) -> str | None:
        """The key of a session from a message index on, as ``m.forwarded_room_key`` has it."""
        row = self._row(room_id, session_id)
        exported = None if row is None else self._session(row).export_at(index)
        return None if exported is None else exported.to_base64()

    def is_owned_by(self, room_id: str, session_id: str, curve25519: str) -> bool:
        """Whether a session is known as that of the device with this identity key."""
        row = self._row(room_id, session_id)
        return row is not None and row["sender_key"] == curve25519

    def _row(self, room_id: str, session_id: str) -> Row | None:
        return self._database.first(
            "SELECT * FROM megolm_inbound WHERE room_id = ? AND session_id = ?", room_id, session_id
        )

    def _session(self, row: Row) -> InboundGroupSession:
        try:
            return InboundGroupSession.from_pickle(row["pickle"], self._key)
        except ValueError as error:
            raise StoreError("the keys of encrypted rooms do not open with this storage key") from error

    # --- messages ---

    def decrypt(self, event: Mapping[str, Any]) -> JsonObject:
        """The event as it was before it was encrypted: the same with another type and content.

        Decrypting the same event again gives the same.

        Raises:
            MissingKey: the key may still come.
            UnknownAlgorithm, MalformedKeyMessage, TooLarge, Undecryptable, ForgedSender, WrongRoom, Replayed:
                it is not to be shown.
        """
        content = event.get("content")
        content = content if isinstance(content, dict) else {}
        message, session_id = _message(content)
        room_id, event_id = str(event.get("room_id")), str(event.get("event_id"))
        row = self._row(room_id, session_id)
        if row is None:
            raise MissingKey(session_id)
        # "this means ensuring the event's sender, room_id, and the recorded session_id match a trusted
        # session". The owner is who the key came from. What the event says of its device proves nothing;
        # where it says something else, something is wrong.
        if event.get("sender") != row["sender"]:
            raise ForgedSender("the session is another user's")
        if content.get("sender_key", row["sender_key"]) != row["sender_key"]:
            raise ForgedSender("the session is another device's")
        index = _index(message)
        if index < row["first_index"]:
            raise MissingKey(session_id)
        try:
            plaintext = self._session(row).decrypt(message).plaintext
        except ValueError as error:
            raise Undecryptable("the message does not decrypt with the key of its session") from error
        kind, inner = _payload(plaintext, room_id)
        self._see(room_id, session_id, index, event_id)
        # What relates events stands outside, since the homeserver has to read it.
        if "m.relates_to" in content and "m.relates_to" not in inner:
            inner = {**inner, "m.relates_to": content["m.relates_to"]}
        return {**event, "type": kind, "content": inner}

    def _see(self, room_id: str, session_id: str, index: int, event_id: str) -> None:
        """A message index belongs to one event for ever.

        "Clients must guard against replay attacks by keeping track of the ratchet indices of Megolm sessions.
        … Care should be taken in order to avoid false positives, as a client may decrypt the same event
        twice".
        """
        self._database.run(
            "INSERT OR IGNORE INTO megolm_seen VALUES (?, ?, ?, ?)", room_id, session_id, index, event_id
        )
        row = self._database.one(
            "SELECT event_id FROM megolm_seen WHERE room_id = ? AND session_id = ? AND message_index = ?",
            room_id,
            session_id,
            index,
        )
        if row["event_id"] != event_id:
            raise Replayed("the message stood in another event before")


def _room_key(content: Mapping[str, Any]) -> tuple[str, str, str]:
    if content.get("algorithm") != MEGOLM:
        raise UnknownAlgorithm("a room key of an algorithm we do not know")
    values = [content.get(name) for name in ("room_id", "session_id", "session_key")]
    if not all(isinstance(value, str) for value in values) or max(map(len, map(str, values[:2]))) > _MAX_ID:
        raise MalformedKeyMessage("the room key lacks something")
    room_id, session_id, text = map(str, values)
    return room_id, session_id, text


def _message(content: Mapping[str, Any]) -> tuple[MegolmMessage, str]:
    if content.get("algorithm") != MEGOLM:
        raise UnknownAlgorithm("an event that is not encrypted with Megolm")
    session_id, ciphertext = content.get("session_id"), content.get("ciphertext")
    if not isinstance(session_id, str) or not isinstance(ciphertext, str) or len(session_id) > _MAX_ID:
        raise MalformedKeyMessage("the event has no ciphertext")
    if len(ciphertext) > MAX_CIPHERTEXT:
        raise TooLarge(f"the ciphertext has {len(ciphertext)} characters, more than {MAX_CIPHERTEXT}")
    try:
        return MegolmMessage.from_base64(ciphertext), session_id
    except ValueError as error:
        raise MalformedKeyMessage("the ciphertext is none") from error


def _index(message: MegolmMessage) -> int:
    return int(message.message_index())


def _payload(plaintext: bytes, room_id: str) -> tuple[str, JsonObject]:
    try:
        payload = orjson.loads(plaintext)
    except orjson.JSONDecodeError as error:
        raise MalformedKeyMessage("the event holds no JSON") from error
    kind = payload.get("type") if isinstance(payload, dict) else None
    content = payload.get("content") if isinstance(payload, dict) else None
    if not isinstance(kind, str) or not isinstance(content, dict) or kind == "m.room.encrypted":
        raise MalformedKeyMessage("the event holds no event")
    if payload.get("room_id") != room_id:
        raise WrongRoom("the event was encrypted for another room")
    return kind, content
