"""Olm between a device of ours and another: what carries room keys (Matrix v1.16,
"m.olm.v1.curve25519-aes-sha2").
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from vodozemac import AnyOlmMessage, Curve25519PublicKey, PreKeyMessage, Session

from bridges.matrix.database import Database
from bridges.matrix.megolm.accounts import OLM, SIGNED_KEY, Accounts, OwnDevice
from bridges.matrix.megolm.devices import Device
from bridges.matrix.megolm.errors import (
    ForgedSender,
    MalformedKeyMessage,
    NotForUs,
    TooLarge,
    Undecryptable,
    UnknownAlgorithm,
)
from bridges.matrix.megolm.signing import JsonObject, check_signed

# A room key is a few hundred bytes; a to-device message of a kind we know is never near this.
MAX_CIPHERTEXT = 64 * 1024
# "The maximum number of olm sessions maintained per device should be at least 4."
MAX_SESSIONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The content of a to-device message, and the device it certainly came from."""

    type: str
    content: JsonObject
    sender: Device


class Olm:
    """Encrypts for devices and decrypts what they send; each step is kept before it has an effect outside."""

    def __init__(self, database: Database, accounts: Accounts, *, key: bytes) -> None:
        self._database = database
        self._accounts = accounts
        self._key = key

    def has_session(self, own_user: str, device: Device) -> bool:
        """Whether something can be encrypted for a device without claiming a key of it first."""
        return bool(self._sessions(own_user, device.curve25519))

    def begin(self, own: OwnDevice, device: Device, one_time_key: Mapping[str, Any]) -> None:
        """Begin a session with a key that was claimed of the device.

        Raises:
            BadSignature: the device has not signed the key.
            MalformedKeyMessage: it is no key.
        """
        check_signed(one_time_key, user_id=device.user_id, key_id=device.device_id, key=device.ed25519)
        try:
            session = own.account.create_outbound_session(
                Curve25519PublicKey.from_base64(device.curve25519),
                Curve25519PublicKey.from_base64(str(one_time_key.get("key"))),
            )
        except ValueError as error:
            raise MalformedKeyMessage("the claimed key is none") from error
        self._save(own.user_id, device.curve25519, session)

    def encrypt(
        self, own: OwnDevice, device: Device, event_type: str, content: Mapping[str, Any]
    ) -> JsonObject:
        """The content of an ``m.room.encrypted`` to-device message for a device with which there is a
        session.
        """
        session = self._sessions(own.user_id, device.curve25519)[0]
        payload = {
            "type": event_type,
            "content": content,
            "sender": own.user_id,
            "recipient": device.user_id,
            "recipient_keys": {"ed25519": device.ed25519},
            "keys": {"ed25519": own.ed25519},
        }
        kind, ciphertext = session.encrypt(orjson.dumps(payload)).to_parts()
        self._save(own.user_id, device.curve25519, session)
        body = b64encode(ciphertext).rstrip(b"=").decode()
        return {
            "algorithm": OLM,
            "sender_key": own.curve25519,
            "ciphertext": {device.curve25519: {"type": kind, "body": body}},
        }

    def decrypt(self, own: OwnDevice, content: Mapping[str, Any], sender: Device) -> Opened:
        """Decrypt a to-device message of a device, which is the one that ``sender_key`` names.

        Raises:
            UnknownAlgorithm, MalformedKeyMessage, TooLarge, NotForUs, Undecryptable, ForgedSender: nothing of
                it is used.
        """
        message = _message(own, content)
        # "A client must not persist a session or remove one-time keys used by a session until it has
        # successfully decrypted a message using that session."
        with self._database.together():
            plaintext = self._plaintext(own, sender, message)
            return _checked(own, sender, plaintext)

    def _plaintext(self, own: OwnDevice, sender: Device, message: AnyOlmMessage) -> bytes:
        first = message.to_pre_key()
        for session in self._sessions(own.user_id, sender.curve25519):
            if first is not None and not session.session_matches(first):
                continue
            try:
                plaintext = session.decrypt(message)
            except ValueError:  # of another session; if of none, that is said below
                continue
            self._save(own.user_id, sender.curve25519, session)
            return plaintext
        if first is None:
            raise Undecryptable("the message belongs to no session we have")
        return self._first(own, sender, first)

    def _first(self, own: OwnDevice, sender: Device, message: PreKeyMessage) -> bytes:
        # ``own`` may be older than what is on disk, where there may be new keys.
        stored = self._accounts.make(own.user_id)
        try:
            session, plaintext = stored.account.create_inbound_session(
                Curve25519PublicKey.from_base64(sender.curve25519), message
            )
        except ValueError as error:
            raise Undecryptable("the message begins no session with us") from error
        self._accounts.save(stored)  # the one-time key is used up
        self._save(own.user_id, sender.curve25519, session)
        return plaintext

    def _sessions(self, own_user: str, peer_key: str) -> list[Session]:
        """Those with a device, the most recently used first."""
        rows = self._database.all(
            "SELECT pickle FROM olm_sessions WHERE own_user = ? AND peer_key = ? ORDER BY used DESC",
            own_user,
            peer_key,
        )
        return [Session.from_pickle(row["pickle"], self._key) for row in rows]

    def _save(self, own_user: str, peer_key: str, session: Session) -> None:
        with self._database.together():
            self._database.run(
                "INSERT INTO olm_sessions (own_user, peer_key, session_id, pickle, used) VALUES (?1, ?2, ?3, "
                "?4, (SELECT COALESCE(MAX(used), 0) + 1 FROM olm_sessions WHERE own_user = ?1 "
                "AND peer_key = ?2)) ON CONFLICT DO UPDATE SET pickle = excluded.pickle, "
                "used = excluded.used",
                own_user,
                peer_key,
                session.session_id,
                session.pickle(self._key),
            )
            self._database.run(
                "DELETE FROM olm_sessions WHERE own_user = ?1 AND peer_key = ?2 AND number NOT IN "
                "(SELECT number FROM olm_sessions WHERE own_user = ?1 AND peer_key = ?2 "
                "ORDER BY used DESC LIMIT ?3)",
                own_user,
                peer_key,
                MAX_SESSIONS,
            )


def claimed_key(answer: Mapping[str, Any], device: Device) -> JsonObject | None:
    """The one-time key of a device in an answer of ``/keys/claim``, if there is one."""
    users = answer.get("one_time_keys")
    devices = users.get(device.user_id) if isinstance(users, dict) else None
    keys = devices.get(device.device_id) if isinstance(devices, dict) else None
    for name, key in keys.items() if isinstance(keys, dict) else ():
        if name.startswith(f"{SIGNED_KEY}:") and isinstance(key, dict):
            return key
    return None


def sender_key_of(content: Mapping[str, Any]) -> str:
    """The identity key a to-device message claims to be of.

    Raises:
        UnknownAlgorithm: it is not Olm.
        MalformedKeyMessage: it names none.
    """
    if content.get("algorithm") != OLM:
        raise UnknownAlgorithm("a to-device message that is not encrypted with Olm")
    key = content.get("sender_key")
    if not isinstance(key, str):
        raise MalformedKeyMessage("the message names no sender's key")
    return key


def _message(own: OwnDevice, content: Mapping[str, Any]) -> AnyOlmMessage:
    ciphertexts = content.get("ciphertext")
    ciphertext = ciphertexts.get(own.curve25519) if isinstance(ciphertexts, dict) else None
    if not isinstance(ciphertext, dict):
        raise NotForUs("the message holds nothing for this device")
    kind, body = ciphertext.get("type"), ciphertext.get("body")
    if not isinstance(kind, int) or isinstance(kind, bool) or not isinstance(body, str):
        raise MalformedKeyMessage("the message has no ciphertext")
    if len(body) > MAX_CIPHERTEXT:
        raise TooLarge(f"the message has {len(body)} characters, more than {MAX_CIPHERTEXT}")
    try:
        return AnyOlmMessage.from_parts(kind, b64decode(body + "=" * (-len(body) % 4), validate=True))
    except (ValueError, OverflowError, binascii.Error) as error:
        raise MalformedKeyMessage("the ciphertext is none") from error


def _checked(own: OwnDevice, sender: Device, plaintext: bytes) -> Opened:
    try:
        payload = orjson.loads(plaintext)
    except orjson.JSONDecodeError as error:
        raise MalformedKeyMessage("the message holds no JSON") from error
    if not isinstance(payload, dict):
        raise MalformedKeyMessage("the message holds no object")
    kind, content = payload.get("type"), payload.get("content")
    if not isinstance(kind, str) or not isinstance(content, dict):
        raise MalformedKeyMessage("the message holds no event")
    keys, recipient_keys = payload.get("keys"), payload.get("recipient_keys")
    # "sender must correspond to the user who sent the event, recipient to the local user, and recipient_keys
    # to the local ed25519 key. Clients must confirm that the sender_key and the ed25519 field value under the
    # keys property match the keys returned by /keys/query"
    if payload.get("sender") != sender.user_id:
        raise ForgedSender("the message names another sender inside")
    if not isinstance(keys, dict) or keys.get("ed25519") != sender.ed25519:
        raise ForgedSender("the message names another fingerprint than that of its device")
    if payload.get("recipient") != own.user_id:
        raise NotForUs("the message was encrypted for another user")
    if not isinstance(recipient_keys, dict) or recipient_keys.get("ed25519") != own.ed25519:
        raise NotForUs("the message was encrypted for another device")
    return Opened(type=kind, content=content, sender=sender)
