"""Our own devices: one for each user of ours that speaks in encrypted rooms, and one for the bot.

Each user has a device with identity, one-time and fallback keys, and a cross-signing identity that signs
that device, so that clients which trust only cross-signed devices trust it, too. A device ID is made with
its keys and never used for others: clients remember which keys an ID had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from vodozemac import Account, Curve25519PublicKey

from bridges.matrix.database import Database
from bridges.matrix.megolm.signing import JsonObject, signed
from linearized.exceptions import StoreError

OLM = "m.olm.v1.curve25519-aes-sha2"
MEGOLM = "m.megolm.v1.aes-sha2"
# The kind of one-time key that is signed, the only one we upload or claim.
SIGNED_KEY = "signed_curve25519"
# One-time keys the homeserver has of the bot: every device in every encrypted room claims one, once. A
# fallback key covers a burst.
BOT_ONE_TIME_KEYS = 25
# Ghosts may be many, and each key is a row at the homeserver; their fallback key covers the rest.
GHOST_ONE_TIME_KEYS = 5
# Text of the random part of a device ID.
_DEVICE_BYTES = 6
DEVICE_PREFIX = "LIN"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnDevice:
    """A device of ours with its secrets; an ``Account`` that signs is used for its Ed25519 key only."""

    user_id: str
    device_id: str
    account: Account
    master: Account
    self_signing: Account
    user_signing: Account
    published: bool

    @property
    def curve25519(self) -> str:
        """The identity key (unpadded base64)."""
        return self.account.curve25519_key.to_base64()

    @property
    def ed25519(self) -> str:
        """The fingerprint key (unpadded base64)."""
        return self.account.ed25519_key.to_base64()

    def device_keys(self) -> JsonObject:
        """``DeviceKeys``, signed by the device and by the user's self-signing key."""
        keys: JsonObject = {
            "user_id": self.user_id,
            "device_id": self.device_id,
            "algorithms": [OLM, MEGOLM],
            "keys": {
                f"curve25519:{self.device_id}": self.curve25519,
                f"ed25519:{self.device_id}": self.ed25519,
            },
        }
        by_device = signed(keys, account=self.account, user_id=self.user_id, key_id=self.device_id)
        self_signing = self.self_signing
        key_id = self_signing.ed25519_key.to_base64()
        return signed(by_device, account=self_signing, user_id=self.user_id, key_id=key_id)

    def cross_signing_keys(self) -> JsonObject:
        """The body of ``POST /keys/device_signing/upload``: the master key, and two it has signed."""
        master = self._cross_signing_key("master", self.master)
        key_id = self.master.ed25519_key.to_base64()
        return {
            "master_key": signed(master, account=self.account, user_id=self.user_id, key_id=self.device_id),
            **{
                f"{usage}_key": signed(
                    self._cross_signing_key(usage, key),
                    account=self.master,
                    user_id=self.user_id,
                    key_id=key_id,
                )
                for usage, key in (
                    ("self_signing", self.self_signing),
                    ("user_signing", self.user_signing),
                )
            },
        }

    def _cross_signing_key(self, usage: str, account: Account) -> JsonObject:
        key = account.ed25519_key.to_base64()
        return {"user_id": self.user_id, "usage": [usage], "keys": {f"ed25519:{key}": key}}

    def one_time_keys(self) -> JsonObject:
        """Those not published yet, as ``/keys/upload`` takes them."""
        return self._signed_keys(self.account.one_time_keys, {})

    def fallback_keys(self) -> JsonObject:
        """The fallback key if it is not published yet, as ``/keys/upload`` takes it."""
        # The library's type stubs leave the attribute out.
        keys = cast("dict[str, Curve25519PublicKey]", cast("Any", self.account).fallback_key)
        return self._signed_keys(keys, {"fallback": True})

    def generate_fallback_key(self) -> None:
        """Make a new fallback key; the one before still opens what was begun with it."""
        cast("Any", self.account).generate_fallback_key()  # as above

    def _signed_keys(self, keys: Mapping[str, Curve25519PublicKey], more: JsonObject) -> JsonObject:
        return {
            f"{SIGNED_KEY}:{name}": signed(
                {"key": key.to_base64(), **more},
                account=self.account,
                user_id=self.user_id,
                key_id=self.device_id,
            )
            for name, key in keys.items()
        }


class Accounts:
    """The devices of ours in the database, every secret encrypted with the storage key.

    A device is opened anew for each use: what is saved is what the next use sees, whatever failed between.
    """

    def __init__(self, database: Database, *, key: bytes, ids: Callable[[int], str]) -> None:
        self._database = database
        self._key = key
        self._ids = ids

    def find(self, user_id: str) -> OwnDevice | None:
        """The user's device, if it has one.

        Raises:
            StoreError: it was encrypted with another storage key.
        """
        row = self._database.first("SELECT * FROM crypto_accounts WHERE user_id = ?", user_id)
        if row is None:
            return None
        try:
            opened = {
                name: Account.from_pickle(row[name], self._key)
                for name in ("account", "master", "self_signing", "user_signing")
            }
        except ValueError as error:
            raise StoreError("the keys of encrypted rooms do not open with this storage key") from error
        return OwnDevice(
            user_id=user_id, device_id=row["device_id"], published=bool(row["published"]), **opened
        )

    def make(self, user_id: str) -> OwnDevice:
        """The user's device, made if it has none; not published by that."""
        found = self.find(user_id)
        if found is not None:
            return found
        device_id = DEVICE_PREFIX + "".join(c for c in self._ids(_DEVICE_BYTES).upper() if c.isalnum())
        self._database.run(
            "INSERT INTO crypto_accounts (user_id, device_id, account, master, self_signing, user_signing) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            user_id,
            device_id,
            *(Account().pickle(self._key) for _ in range(4)),
        )
        made = self.find(user_id)
        if made is None:
            raise StoreError("a device that was just made is not there")
        return made

    def save(self, device: OwnDevice) -> None:
        """Keep the state of the device's account."""
        self._database.run(
            "UPDATE crypto_accounts SET account = ? WHERE user_id = ?",
            device.account.pickle(self._key),
            device.user_id,
        )

    def set_published(self, user_id: str) -> None:
        """The homeserver has the device's keys and its user's cross-signing identity."""
        self._database.run("UPDATE crypto_accounts SET published = 1 WHERE user_id = ?", user_id)

    def owner_of(self, user_id: str, device_id: str) -> OwnDevice | None:
        """The device of ours with this user and ID."""
        device = self.find(user_id)
        return device if device is not None and device.device_id == device_id else None

    def all_users(self) -> list[str]:
        """Every user that has a device."""
        rows = self._database.all("SELECT user_id FROM crypto_accounts ORDER BY user_id")
        return [row["user_id"] for row in rows]
