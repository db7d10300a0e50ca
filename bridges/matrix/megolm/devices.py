"""Other people's devices: which each has, and with which keys (Matrix v1.16, "Tracking the device list").

The answer of ``/keys/query`` is checked here; what does not hold is left out, as if it were not there. A
device keeps the keys it was first seen with; one that comes with others is left out, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from sqlite3 import Row
from typing import Any, TypeGuard

import structlog

from bridges.matrix.database import Database
from bridges.matrix.megolm.errors import BadSignature, MalformedKeyMessage
from bridges.matrix.megolm.signing import check_signed

# Devices of one user that count. Nobody has as many; each costs a message whenever a key is shared.
MAX_DEVICES = 100
# Public keys and device IDs are far shorter; the bound keeps junk out of the database.
_MAX_TEXT = 255

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Somebody's device. Keys are unpadded base64; ``cross_signed``: its owner's identity vouches for it."""

    user_id: str
    device_id: str
    curve25519: str
    ed25519: str
    cross_signed: bool


def checked_devices(
    answer: Mapping[str, Any], user_id: str, *, own_identity: str | None = None
) -> list[Device]:
    """The devices of one user in an answer of ``/keys/query``, without those that do not hold.

    ``own_identity`` is the self-signing key of a user of ours: there the homeserver's word does not count.
    """
    found: list[Device] = []
    devices = _object(_object(answer.get("device_keys")).get(user_id))
    identity = own_identity or _self_signing_key(answer, user_id)
    for device_id, keys in sorted(devices.items())[:MAX_DEVICES]:
        try:
            found.append(_checked(_object(keys), user_id, device_id, identity))
        except (BadSignature, MalformedKeyMessage) as error:
            log.warning("a device is not used", user_id=user_id, device_id=device_id, reason=str(error))
    return found


def _checked(keys: Mapping[str, Any], user_id: str, device_id: str, identity: str | None) -> Device:
    # Or somebody could pass a device of one user for that of another.
    if keys.get("user_id") != user_id or keys.get("device_id") != device_id or len(device_id) > _MAX_TEXT:
        raise MalformedKeyMessage("the keys are those of another device")
    public = _object(keys.get("keys"))
    curve25519, ed25519 = public.get(f"curve25519:{device_id}"), public.get(f"ed25519:{device_id}")
    if not _is_key(curve25519) or not _is_key(ed25519):
        raise MalformedKeyMessage("the device lacks a key")
    # "Clients must confirm that [the keys] match the keys returned by /keys/query for the given user, and
    # must also verify the signature of the keys from the /keys/query response."
    check_signed(keys, user_id=user_id, key_id=device_id, key=ed25519)
    return Device(
        user_id=user_id,
        device_id=device_id,
        curve25519=curve25519,
        ed25519=ed25519,
        cross_signed=identity is not None and _is_signed_by(keys, user_id, identity),
    )


def _self_signing_key(answer: Mapping[str, Any], user_id: str) -> str | None:
    """The user's self-signing key, if their master key has signed it."""
    master = _object(_object(answer.get("master_keys")).get(user_id))
    own = _object(_object(answer.get("self_signing_keys")).get(user_id))
    try:
        master_key = _cross_signing_key(master, user_id, "master")
        key = _cross_signing_key(own, user_id, "self_signing")
        check_signed(own, user_id=user_id, key_id=master_key, key=master_key)
    except (BadSignature, MalformedKeyMessage):  # a user without an identity, or with half of one
        return None
    return key


def _cross_signing_key(value: Mapping[str, Any], user_id: str, usage: str) -> str:
    usages, keys = value.get("usage"), _object(value.get("keys"))
    if value.get("user_id") != user_id or not isinstance(usages, list) or usage not in usages:
        raise MalformedKeyMessage(f"there is no {usage} key")
    (key,) = keys.values() if len(keys) == 1 else ("",)
    if not _is_key(key):
        raise MalformedKeyMessage(f"there is no {usage} key")
    return str(key)


def _is_signed_by(keys: Mapping[str, Any], user_id: str, identity: str) -> bool:
    try:
        check_signed(keys, user_id=user_id, key_id=identity, key=identity)
    except BadSignature:
        return False
    return True


def _is_key(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


class DeviceLists:
    """What is known of people's devices, and whether it is up to date."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def outdated(self, users: Iterable[str]) -> list[str]:
        """Those of ``users`` whose devices have to be asked for: never seen, or changed since."""
        return sorted(
            user
            for user in set(users)
            if self._database.first("SELECT 1 FROM crypto_users WHERE user_id = ? AND outdated = 0", user)
            is None
        )

    def changed(self, users: Iterable[str]) -> None:
        """The homeserver says that the devices of these users changed; of those we do not follow, nothing is
        kept.
        """
        for user in users:
            self._database.run("UPDATE crypto_users SET outdated = 1 WHERE user_id = ?", user)

    def asking(self, users: Iterable[str]) -> None:
        """These users' devices are being asked for; what changes from now on is not in the answer."""
        for user in users:
            self._database.run(
                "INSERT INTO crypto_users VALUES (?, 2) ON CONFLICT (user_id) DO UPDATE SET outdated = 2",
                user,
            )

    def all_outdated(self) -> None:
        """Something may have been missed: ask for everybody's again, when they are next needed."""
        self._database.run("UPDATE crypto_users SET outdated = 1")

    def update(self, user_id: str, devices: Iterable[Device]) -> None:
        """The user's devices as they are now. One whose keys differ from those it had is left out."""
        with self._database.together():
            self._database.run("UPDATE crypto_devices SET gone = 1 WHERE user_id = ?", user_id)
            for device in devices:
                self._database.run(
                    "INSERT INTO crypto_devices (user_id, device_id, curve25519, ed25519, cross_signed) "
                    "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET gone = 0, cross_signed = "
                    "excluded.cross_signed WHERE curve25519 = excluded.curve25519 AND ed25519 = "
                    "excluded.ed25519",
                    device.user_id,
                    device.device_id,
                    device.curve25519,
                    device.ed25519,
                    device.cross_signed,
                )
            self._database.run(
                "INSERT INTO crypto_users VALUES (?1, 0) ON CONFLICT (user_id) DO UPDATE SET outdated = 0 "
                "WHERE outdated = 2",
                user_id,
            )

    def of(self, user_id: str) -> list[Device]:
        """The user's devices."""
        rows = self._database.all(
            "SELECT * FROM crypto_devices WHERE user_id = ? AND gone = 0 ORDER BY device_id", user_id
        )
        return [_device(row) for row in rows]

    def by_key(self, user_id: str, curve25519: str) -> Device | None:
        """The user's device with an identity key."""
        return next((device for device in self.of(user_id) if device.curve25519 == curve25519), None)

    def owner_of_key(self, curve25519: str) -> Device | None:
        """Whosever device has an identity key."""
        row = self._database.first(
            "SELECT * FROM crypto_devices WHERE curve25519 = ? ORDER BY gone LIMIT 1", curve25519
        )
        return None if row is None else _device(row)

    def by_id(self, user_id: str, device_id: str) -> Device | None:
        """The user's device with an ID."""
        return next((device for device in self.of(user_id) if device.device_id == device_id), None)


def _device(row: Row) -> Device:
    return Device(
        user_id=row["user_id"],
        device_id=row["device_id"],
        curve25519=row["curve25519"],
        ed25519=row["ed25519"],
        cross_signed=bool(row["cross_signed"]),
    )
