"""Making our devices known: the device itself, its keys, its user's identity; and new keys for those used
up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import httpx
import trio

from bridges.matrix.database import Database
from bridges.matrix.megolm.accounts import (
    BOT_ONE_TIME_KEYS,
    GHOST_ONE_TIME_KEYS,
    SIGNED_KEY,
    Accounts,
    OwnDevice,
)
from bridges.matrix.megolm.api import KeysApi
from bridges.matrix.megolm.devices import Device, DeviceLists, checked_devices

# Seconds before the users of a server that was away are asked for again: each time costs its timeout.
FAILURE_PAUSE = 60.0
# Users asked for in one query; their devices come with keys and signatures, a kilobyte each.
QUERY_CHUNK = 100


class Publishing:
    """Our devices as the homeserver has them, and what it has of others'."""

    def __init__(
        self,
        *,
        base_url: str,
        token: str,
        http: httpx.AsyncClient,
        database: Database,
        accounts: Accounts,
        lists: DeviceLists,
        bot: str,
    ) -> None:
        self._base_url, self._token, self._http = base_url, token, http
        self._database = database
        self._accounts = accounts
        self._lists = lists
        self._bot = bot
        self._lock = trio.Lock()
        self._failed: dict[str, float] = {}

    def api(self, own: OwnDevice) -> KeysApi:
        """The homeserver as a device of ours."""
        return KeysApi(self._base_url, token=self._token, http=self._http, own=own)

    async def device(self, user_id: str) -> OwnDevice:
        """The user's device, known to the homeserver.

        Raises:
            ClientError: it does not take it.
        """
        found = self._accounts.find(user_id)
        if found is not None and found.published:
            return found
        async with self._lock:
            own = self._accounts.make(user_id)
            if not own.published:
                api = self.api(own)
                await api.make_device()
                await api.upload_identity(own.cross_signing_keys())
                await self._upload(own, count=0, fallback=True)
                self._accounts.set_published(user_id)
        return self._accounts.make(user_id)

    async def top_up(self, counts: Mapping[str, Any], unused: Mapping[str, Any]) -> None:
        """Upload keys for those used up; ``counts`` and ``unused`` by user and device, as a transaction has
        them (MSC3202).

        Raises:
            ClientError: the homeserver is away.
        """
        for user_id, devices in counts.items():
            own = self._accounts.find(user_id)
            if own is None or not own.published or not isinstance(devices, dict):
                continue
            count = devices.get(own.device_id)
            count = count.get(SIGNED_KEY, 0) if isinstance(count, dict) else None
            if not isinstance(count, int):
                continue
            fallbacks = unused.get(user_id)
            kinds = fallbacks.get(own.device_id) if isinstance(fallbacks, dict) else None
            used = isinstance(kinds, list) and SIGNED_KEY not in kinds
            if used or count < self._wanted(user_id):
                async with self._lock:
                    await self._upload(self._accounts.make(user_id), count=count, fallback=used)

    def _wanted(self, user_id: str) -> int:
        return BOT_ONE_TIME_KEYS if user_id == self._bot else GHOST_ONE_TIME_KEYS

    async def _upload(self, own: OwnDevice, *, count: int, fallback: bool) -> None:
        """Upload the device's keys. The secret halves are on disk before, and new keys are made only once
        those made before have arrived.
        """
        account = own.account
        missing = self._wanted(own.user_id) - count - len(account.one_time_keys)
        if missing > 0:
            account.generate_one_time_keys(missing)
        if fallback and not own.fallback_keys():
            own.generate_fallback_key()
        self._accounts.save(own)
        body = {"one_time_keys": own.one_time_keys(), "fallback_keys": own.fallback_keys()}
        if not own.published:
            body["device_keys"] = own.device_keys()
        await self.api(own).upload(body)
        # Meanwhile a message may have used up a one-time key: mark what is on disk now.
        stored = self._accounts.make(own.user_id)
        stored.account.mark_keys_as_published()
        self._accounts.save(stored)

    async def refresh(self, users: Iterable[str], own: OwnDevice) -> None:
        """Ask for the devices of those users whose devices are not known, or changed.

        Raises:
            ClientError: the homeserver is away.
        """
        now = trio.current_time()
        outdated = [
            user
            for user in self._lists.outdated(users)
            if user not in self._failed or now - self._failed[user] >= FAILURE_PAUSE
        ]
        for start in range(0, len(outdated), QUERY_CHUNK):
            chunk = outdated[start : start + QUERY_CHUNK]
            # What changes while the answer is under way has to be asked for again.
            self._lists.asking(chunk)
            answer = await self.api(own).query(chunk)
            failures = answer.get("failures")
            for user in chunk:
                if isinstance(failures, dict) and user.partition(":")[2] in failures:
                    # Their server is away: what is known of them stays, and is asked for again.
                    self._failed[user] = now
                    continue
                self._failed.pop(user, None)
                ours = self._accounts.find(user)
                identity = None if ours is None else ours.self_signing.ed25519_key.to_base64()
                self._lists.update(user, checked_devices(answer, user, own_identity=identity))

    async def find_device(self, user_id: str, curve25519: str, own: OwnDevice) -> Device | None:
        """A user's device by its identity key, asked for if it is not known.

        Raises:
            ClientError: the homeserver is away.
        """
        await self.refresh([user_id], own)
        return self._lists.by_key(user_id, curve25519)
