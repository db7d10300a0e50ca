"""A Matrix client that encrypts, made of vodozemac and the Client-Server API and nothing of the
bridge's: the other end in tests.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64decode, b64encode
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

import vodozemac
from canonicaljson import encode_canonical_json

JsonObject = dict[str, Any]
# A request below /_matrix/client/v3 as the user: method, path, body.
Call = Callable[[str, str, JsonObject | None], Awaitable[JsonObject]]
OLM, MEGOLM = "m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"


class NoKeyError(Exception):
    """A device has no key left with which a session could begin."""


class EncryptingClient:
    """One device. ``keys`` holds the sessions it was given, by room and session."""

    def __init__(self, call: Call, user_id: str, device_id: str) -> None:
        self.call = call
        self.user_id, self.device_id = user_id, device_id
        self.account = vodozemac.Account()
        self.master, self.self_signing, self.user_signing = (vodozemac.Account() for _ in range(3))
        self.sessions: dict[str, vodozemac.Session] = {}
        # Sessions with a device before the one that is used to send.
        self.older: dict[str, list[vodozemac.Session]] = defaultdict(list)
        self.keys: dict[tuple[str, str], vodozemac.InboundGroupSession] = {}
        self.forwarded: list[JsonObject] = []
        self.requests: list[JsonObject] = []
        self.dummies = 0
        self.outbound: dict[str, vodozemac.GroupSession] = {}
        self.shared: set[tuple[str, str, str]] = set()

    @property
    def curve25519(self) -> str:
        return self.account.curve25519_key.to_base64()

    @property
    def ed25519(self) -> str:
        return self.account.ed25519_key.to_base64()

    def sign(self, value: JsonObject, by: vodozemac.Account | None = None, key_id: str = "") -> JsonObject:
        account = by or self.account
        covered = {name: item for name, item in value.items() if name not in ("signatures", "unsigned")}
        signature = account.sign(encode_canonical_json(covered)).to_base64()
        signatures = dict(value.get("signatures", {}).get(self.user_id, {}))
        signatures[f"ed25519:{key_id or self.device_id}"] = signature
        return {**value, "signatures": {self.user_id: signatures}}

    def device_keys(self) -> JsonObject:
        return self.sign(
            {
                "user_id": self.user_id,
                "device_id": self.device_id,
                "algorithms": [OLM, MEGOLM],
                "keys": {
                    f"curve25519:{self.device_id}": self.curve25519,
                    f"ed25519:{self.device_id}": self.ed25519,
                },
            }
        )

    async def publish(self, *, one_time_keys: int = 10, verified: bool = True) -> None:
        """Upload the device's keys; ``verified``: with an identity that signs it."""
        keys = self.device_keys()
        if verified:
            keys = self.sign(keys, self.self_signing, self.self_signing.ed25519_key.to_base64())
            await self.call("POST", "keys/device_signing/upload", self.identity())
        self.account.generate_one_time_keys(one_time_keys)
        body = {"device_keys": keys, "one_time_keys": self.one_time_keys()}
        await self.call("POST", "keys/upload", body)
        self.account.mark_keys_as_published()

    def one_time_keys(self) -> JsonObject:
        return {
            f"signed_curve25519:{name}": self.sign({"key": key.to_base64()})
            for name, key in self.account.one_time_keys.items()
        }

    def identity(self) -> JsonObject:
        master = self.master.ed25519_key.to_base64()
        own = {"user_id": self.user_id}
        body: JsonObject = {
            "master_key": {**own, "usage": ["master"], "keys": {f"ed25519:{master}": master}},
        }
        for usage, account in (("self_signing", self.self_signing), ("user_signing", self.user_signing)):
            key = account.ed25519_key.to_base64()
            value = {**own, "usage": [usage], "keys": {f"ed25519:{key}": key}}
            body[f"{usage}_key"] = self.sign(value, self.master, master)
        return body

    # --- sending ---

    async def devices_of(self, users: Iterable[str]) -> list[JsonObject]:
        answer = await self.call("POST", "keys/query", {"device_keys": {user: [] for user in users}})
        return [keys for devices in answer["device_keys"].values() for keys in devices.values()]

    async def olm(self, device: JsonObject, kind: str, content: JsonObject, /, **forged: Any) -> JsonObject:
        """An encrypted to-device message for a device; ``forged`` replaces what is inside."""
        user_id, device_id = device["user_id"], device["device_id"]
        curve25519 = device["keys"][f"curve25519:{device_id}"]
        if curve25519 not in self.sessions:
            wanted = {user_id: {device_id: "signed_curve25519"}}
            answer = await self.call("POST", "keys/claim", {"one_time_keys": wanted})
            claimed = answer["one_time_keys"].get(user_id, {}).get(device_id, {})
            if not claimed:
                raise NoKeyError(device_id)
            (key,) = claimed.values()
            self.sessions[curve25519] = self.account.create_outbound_session(
                vodozemac.Curve25519PublicKey.from_base64(curve25519),
                vodozemac.Curve25519PublicKey.from_base64(key["key"]),
            )
        payload = {
            "type": kind,
            "content": content,
            "sender": self.user_id,
            "recipient": user_id,
            "recipient_keys": {"ed25519": device["keys"][f"ed25519:{device_id}"]},
            "keys": {"ed25519": self.ed25519},
            **forged,
        }
        number, ciphertext = self.sessions[curve25519].encrypt(json.dumps(payload).encode()).to_parts()
        body = b64encode(ciphertext).decode().rstrip("=")
        return {
            "algorithm": OLM,
            "sender_key": self.curve25519,
            "ciphertext": {curve25519: {"type": number, "body": body}},
        }

    async def send_to_device(self, device: JsonObject, kind: str, content: JsonObject) -> None:
        messages = {device["user_id"]: {device["device_id"]: content}}
        path = f"sendToDevice/{kind}/{secrets.token_hex(8)}"
        await self.call("PUT", path, {"messages": messages})

    def session(self, room_id: str) -> vodozemac.GroupSession:
        if room_id not in self.outbound:
            made = self.outbound[room_id] = vodozemac.GroupSession()
            self.keys[room_id, made.session_id] = vodozemac.InboundGroupSession(made.session_key)
        return self.outbound[room_id]

    def room_key(self, room_id: str) -> JsonObject:
        session = self.session(room_id)
        return {
            "algorithm": MEGOLM,
            "room_id": room_id,
            "session_id": session.session_id,
            "session_key": session.session_key.to_base64(),
        }

    async def share(self, room_id: str, users: Iterable[str]) -> None:
        """Give the room's key to every device of these users that has not got it."""
        session_id = self.session(room_id).session_id
        for device in await self.devices_of(users):
            place = (session_id, device["user_id"], device["device_id"])
            if place in self.shared or device["device_id"] == self.device_id:
                continue
            try:
                sealed = await self.olm(device, "m.room_key", self.room_key(room_id))
            except NoKeyError:
                continue  # as when a homeserver is killed while it takes a device's keys: the next time
            self.shared.add(place)
            await self.send_to_device(device, "m.room.encrypted", sealed)

    def forwarded_key(self, room_id: str, session_id: str, /, **forged: Any) -> JsonObject:
        """The key of a session of ours, as whoever lost it gets it again."""
        session = self.keys[room_id, session_id]
        exported = session.export_at(session.first_known_index)
        assert exported is not None
        return {
            "algorithm": MEGOLM,
            "room_id": room_id,
            "session_id": session_id,
            "session_key": exported.to_base64(),
            "sender_key": self.curve25519,
            "sender_claimed_ed25519_key": self.ed25519,
            "forwarding_curve25519_key_chain": [],
            **forged,
        }

    async def answer_request(self, device: JsonObject, request: JsonObject) -> None:
        """Give a device the key that it asked for."""
        wanted = request["content"]["body"]
        key = self.forwarded_key(wanted["room_id"], wanted["session_id"])
        sealed = await self.olm(device, "m.forwarded_room_key", key)
        await self.send_to_device(device, "m.room.encrypted", sealed)

    def encrypt(self, room_id: str, kind: str, content: JsonObject, /, **forged: Any) -> JsonObject:
        """The content of an encrypted event; ``forged`` replaces what is inside."""
        session = self.session(room_id)
        payload = {"type": kind, "content": content, "room_id": room_id, **forged}
        return {
            "algorithm": MEGOLM,
            "sender_key": self.curve25519,
            "device_id": self.device_id,
            "session_id": session.session_id,
            "ciphertext": session.encrypt(json.dumps(payload).encode()).to_base64(),
        }

    # --- receiving ---

    def take(self, messages: Iterable[JsonObject]) -> None:
        """Read to-device messages."""
        for message in messages:
            if message["type"] == "m.room_key_request":
                self.requests.append(message)
            if message["type"] != "m.room.encrypted":
                continue
            content = message["content"]
            opened = self._opened(content["sender_key"], content["ciphertext"][self.curve25519])
            assert opened["sender"] == message["sender"]
            assert opened["recipient"] == self.user_id
            assert opened["recipient_keys"] == {"ed25519": self.ed25519}
            inner = opened["content"]
            if opened["type"] == "m.room_key":
                key = vodozemac.InboundGroupSession(vodozemac.SessionKey(inner["session_key"]))
                self.keys[inner["room_id"], inner["session_id"]] = key
            elif opened["type"] == "m.forwarded_room_key":
                self.forwarded.append(inner)
            elif opened["type"] == "m.dummy":
                self.dummies += 1

    def _opened(self, sender_key: str, part: JsonObject) -> JsonObject:
        body = part["body"]
        raw = b64decode(body + "=" * (-len(body) % 4))
        message = vodozemac.AnyOlmMessage.from_parts(part["type"], raw)
        known = [session for session in (self.sessions.get(sender_key), *self.older[sender_key]) if session]
        for session in known:
            try:
                return cast("JsonObject", json.loads(session.decrypt(message)))
            except ValueError:  # of another session
                continue
        first = message.to_pre_key()
        assert first is not None
        key = vodozemac.Curve25519PublicKey.from_base64(sender_key)
        self.older[sender_key] = known
        self.sessions[sender_key], plaintext = self.account.create_inbound_session(key, first)
        return cast("JsonObject", json.loads(plaintext))

    def decrypt(self, event: JsonObject) -> JsonObject:
        """The type and content of an encrypted event."""
        assert event["type"] == "m.room.encrypted", event
        content = event["content"]
        session = self.keys[event["room_id"], content["session_id"]]
        message = vodozemac.MegolmMessage.from_base64(content["ciphertext"])
        opened: JsonObject = json.loads(session.decrypt(message).plaintext)
        assert opened["room_id"] == event["room_id"]
        return opened
